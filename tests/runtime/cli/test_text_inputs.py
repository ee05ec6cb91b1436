"""Text that vlrun reads may begin with a byte order mark, as editors on Windows write it."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

import pytest

from vlrun.cli.chat import MAX_TEXT, _read_pipe, _read_question
from vlrun.cli.options import read_schema
from vlrun.errors import OptionError
from vlrun.prompt import text_encoder
from vlrun.server.middleware.api_keys import ApiKeys
from vlrun.structured.schema_check import check_schema
from vlrun.tasks.definition import load_tasks

MARK = "\ufeff"


def marked(path: Path, text: str) -> Path:
    path.write_bytes(codecs.BOM_UTF8 + text.encode())
    path.chmod(0o600)
    return path


def test_files_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert "x" in load_tasks(marked(tmp_path / "tasks.toml", "[x]\nabout = 'a'\nprompt.en = 'b'\n"))
    assert read_schema(str(marked(tmp_path / "schema.json", "{}"))) == "{}"
    keys = ApiKeys.read(marked(tmp_path / "keys", "a: 0123456789abcdef\n"))
    assert keys.name_of("0123456789abcdef") == "a"


def test_texts_may_begin_with_a_byte_order_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_schema(f"{MARK}true") == "true"
    assert check_schema(f'{MARK}{{"type": "integer"}}').grammar == {"type": "integer"}
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{MARK}/help\n"))
    assert _read_pipe("") == "/help"


@pytest.mark.parametrize(("beginning", "line"), [("", "x" * 1000), ("", "x" * 999 + "\\\n"), ('"""', "x" * 999 + "\n")])
def test_a_question_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch, beginning: str, line: str) -> None:
    """``vlrun chat < /dev/zero`` took all memory."""
    assert MAX_TEXT == text_encoder.MAX_TEXT
    monkeypatch.setattr("sys.stdin", io.StringIO(beginning + line * (MAX_TEXT // 1000 + 2)))
    with pytest.raises(OptionError, match="more than 2,097,152 characters"):
        _read_question(_read_pipe)


def test_questions_of_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('a\\\nb\n"""c\n\nd"""\ne\\'))
    assert [_read_question(_read_pipe) for _ in range(3)] == ["a\nb", "c\n\nd", "e"]
