"""Text files that users name: bounds, byte order marks, permissions, pipes; each with a message that says which."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from vlrun.cli.options import MAX_SCHEMA_BYTES, read_schema
from vlrun.errors import VlrunError
from vlrun.server.middleware import api_keys
from vlrun.server.middleware.api_keys import ApiKeys
from vlrun.storage.text_files import read_text, without_byte_order_mark
from vlrun.tasks import definition
from vlrun.tasks.definition import load_tasks


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a file"
    path.touch(mode=0o600)
    return path


def test_only_one_mark_is_removed_and_only_at_the_beginning() -> None:
    for text in ("", "a", "\ufeff", "\ufeff\ufeffa", "a\ufeff"):
        assert without_byte_order_mark(text) == text.removeprefix("\ufeff")
        assert without_byte_order_mark(text.encode()) == text.removeprefix("\ufeff").encode()


def test_a_text_up_to_the_limit_is_read(file: Path) -> None:
    file.write_bytes(codecs.BOM_UTF8 + "ä".encode())
    assert read_text(file, 5) == "ä"
    with pytest.raises(OSError, match="more than 4 bytes") as caught:
        read_text(file, 4)
    assert caught.value.strerror == "it has more than 4 bytes, the limit"


@pytest.mark.parametrize("content", [b"\xff", "ä".encode("latin-1"), "a".encode("utf-16"), b"\xef\xbb"])
def test_other_encodings_are_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(OSError, match="not UTF-8 text"):
        read_text(file, 100)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """``--schema <(program)`` and ``--api-key-file <(pass show key)`` name one."""
    reading, writing = os.pipe()
    os.write(writing, b"text")
    os.close(writing)
    assert read_text(f"/dev/fd/{reading}", 100, private=True) == "text"
    os.close(reading)


def test_a_private_file_is_read_by_owner_and_group_only(file: Path) -> None:
    file.write_text("x")
    for mode in range(0o600, 0o700):
        file.chmod(mode)
        assert read_text(file, 1) == "x"
        if mode & 0o026:
            with pytest.raises(OSError, match="chmod 600"):
                read_text(file, 1, private=True)
        else:
            assert read_text(file, 1, private=True) == "x"


READERS = {
    "schema": (lambda path: read_schema(str(path)), MAX_SCHEMA_BYTES),
    "tasks": (load_tasks, definition.MAX_FILE_BYTES),
    "keys": (ApiKeys.read, api_keys.MAX_FILE_BYTES),
}
BAD = {"missing": "No such file", "folder": "Is a directory", "large": "bytes, the limit", "binary": "not UTF-8"}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fault", BAD)
def test_each_reader_says_what_is_wrong_with_its_file(tmp_path: Path, file: Path, reader: str, fault: str) -> None:
    """Each had its own reading, limits and messages."""
    read, limit = READERS[reader]
    path = {"missing": tmp_path / "missing", "folder": tmp_path}.get(fault, file)
    if fault == "large":
        file.write_text("#" * (limit + 1))
    elif fault == "binary":
        file.write_bytes(b"\xff\xfe")
    with pytest.raises(VlrunError, match=BAD[fault]) as caught:
        read(path)
    assert str(path) in caught.value.message
