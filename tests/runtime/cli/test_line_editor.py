"""Completion with Tab in a chat: commands, tasks, and paths with spaces, quotes and ~."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from vlrun.cli import line_editor
from vlrun.cli.line_editor import ChatCompleter
from vlrun.cli.repl import COMMANDS, HELP


def completed(line: str) -> list[str]:
    """Return the lines that Tab may turn a line into."""
    found = ChatCompleter(COMMANDS).get_completions(Document(line), CompleteEvent())
    return [line[: len(line) + one.start_position] + one.text for one in found]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shelf.png").touch()
    (tmp_path / "shelf two.png").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / "模型").mkdir()
    (tmp_path / "模型" / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


CASES = {
    "/i": ["/image"],
    "/q": ["/quit"],
    "  /sta": ["  /stats"],
    "/nonsense": [],
    "How many b": [],
    "": [],
    "/stats s": [],
    "/task cou": ["/task count"],
    "/task count bot": [],
    "/image she": ["/image 'shelf two.png'", "/image shelf.png"],
    "/image 'shelf t": ["/image 'shelf two.png'"],
    '/image "shelf t': ["/image 'shelf two.png'"],
    "/image shelf\\ t": ["/image 'shelf two.png'"],
    "/image shelf.png she": ["/image shelf.png 'shelf two.png'", "/image shelf.png shelf.png"],
    "/image ": ["/image 'shelf two.png'", "/image shelf.png", "/image '模型/'"],
    "/image .": ["/image .hidden"],
    "/image 模型/": ["/image '模型/a.png'"],
    "/image 模": ["/image '模型/'"],
    "/image ~/sh": ["/image ~/'shelf two.png'", "/image ~/shelf.png"],
    "/image none/x": [],
    "/image shelf.png/": [],
    "/model ": ["/model '模型/'"],
    "/load \0": [],
}


@pytest.mark.parametrize("line", CASES, ids=ascii)
def test_tab(line: str) -> None:
    assert completed(line) == CASES[line]


def test_the_names_of_models_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store" / "qwen3-vl-2b").mkdir(parents=True)
    monkeypatch.setenv("VLRUN_MODELS", str(tmp_path / "store"))
    assert completed("/model ") == ["/model qwen3-vl-2b", "/model store/", "/model '模型/'"]
    assert completed("/model qw") == ["/model qwen3-vl-2b"]
    assert completed("/image qw") == []


@given(st.text("ab '\"\\~/.$模\n\t", min_size=1, max_size=8).filter(lambda name: "/" not in name and name.strip(".")))
def test_a_completed_path_is_one_word_that_names_the_file(name: str) -> None:
    """Whatever its name: the word that Tab writes is parsed as the command parses it."""
    quoted = line_editor._quoted(f"folder/{name}")
    assert shlex.split(f"/image {quoted}") == ["/image", f"folder/{name}"]
    assert line_editor._unquoted(line_editor._last_word(f"/image {quoted}")) == f"folder/{name}"


def test_a_large_folder_is_offered_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_editor, "MAX_COMPLETIONS", 2)
    assert len(completed("/image ")) <= 2


def test_every_command_is_in_the_help() -> None:
    assert all(name in HELP for name in COMMANDS)
