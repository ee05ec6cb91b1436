"""Text that vlrun reads may begin with a byte order mark, as editors on Windows write it."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

import pytest

from vlrun.cli.chat import _read_pipe
from vlrun.cli.options import read_schema
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
    assert check_schema(f'{MARK}{{"type": "integer"}}') == {"type": "integer"}
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{MARK}/help\n"))
    assert _read_pipe("") == "/help"
