"""What the commands print, in which order, and where: the reasoning does not get into the answer."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.scripted_vlm import ScriptedVLM
from vlrun.backends.openvino.hints import Hints
from vlrun.cli.model_choice import choose_model
from vlrun.cli.options import ModelOptions
from vlrun.cli.output import NotePrinter, print_json, print_notes, print_stream, stdout_is_file, with_reasoning_note
from vlrun.cli.progress_line import ProgressLine
from vlrun.cli.repl import Repl
from vlrun.tasks.request import TaskRequest
from vlrun.types.answer import Answer, Chunk, Timings, Usage, last_of
from vlrun.types.cache_config import CacheConfig
from vlrun.types.options import Options
from vlrun.types.turn import Turn

OUTPUT = "Let me\x1b[31m see.\n</think>\n\nSix."
QUESTION = [Turn("user", ("How many?",))]
GREEDY = Options(temperature=0)


ANSWER = Answer("six", "stop", Usage(10, 4, 0, 1, 1), Timings(0, 0, 0, 0, 0, 0, None, 0), notes=("limited", "rotated"))


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def vlm() -> ScriptedVLM:
    scripted = ScriptedVLM()
    scripted.write(OUTPUT)
    return scripted


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("show", [True, False])
def test_reasoning_is_dimmed_on_a_terminal_and_never_in_stdout(
    vlm: ScriptedVLM, terminal: bool, show: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that read stdout get the answer alone, also if a terminal shows the reasoning."""
    errors = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    answer = print_stream(vlm.chat(QUESTION, GREEDY), NotePrinter(), show)
    assert capsys.readouterr().out == "Six.\n"
    assert answer.text == "Six."
    shown = errors.getvalue()
    if terminal and show:
        assert shown.count("\x1b[2m") == shown.count("\x1b[0m") > 0
        plain = shown.replace("\x1b[2m", "").replace("\x1b[0m", "")
        assert plain == "Let me[31m see.\n\n"
    else:
        assert not shown


def test_an_answer_that_is_only_reasoning_is_told(vlm: ScriptedVLM, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against an empty line without a reason, if the model ends its output too early."""
    vlm.write("Let me see.")
    print_stream(vlm.chat(QUESTION, GREEDY), NotePrinter())
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("\n", "vlrun: the model has written only its reasoning, and no answer\n")


def test_json_tells_that_an_answer_is_only_reasoning(vlm: ScriptedVLM, capsys: pytest.CaptureFixture[str]) -> None:
    """It had an empty ``answer`` and no word about it."""
    vlm.write("Let me see.")
    result = TaskRequest("How many?").result_of(last_of(vlm.chat(QUESTION, GREEDY)))
    result = replace(result, notes=with_reasoning_note(result))
    print_json(result, "m", None, True)
    print_notes(result, NotePrinter())
    printed = capsys.readouterr()
    note = "the model has written only its reasoning, and no answer"
    assert json.loads(printed.out)["notes"] == [note]
    assert printed.err == f"vlrun: {note}\n"


def test_json_has_the_reasoning_unless_it_is_hidden(vlm: ScriptedVLM, capsys: pytest.CaptureFixture[str]) -> None:
    answer: Answer = last_of(vlm.chat(QUESTION, GREEDY))
    for show, expected in ((True, ["Let me\x1b[31m see."]), (False, None)):
        print_json(TaskRequest("How many?").result_of(answer), "m", None, show)
        printed = json.loads(capsys.readouterr().out)
        assert (printed["answer"], printed.get("reasoning")) == ("Six.", expected)
        assert printed["usage"]["reasoning_tokens"] == answer.usage.reasoning_tokens > 0


def test_a_chat_hides_reasoning_on_request(
    vlm: ScriptedVLM, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for show in (True, False):
        errors = Terminal()
        monkeypatch.setattr(sys, "stderr", errors)
        monkeypatch.setattr(ModelOptions, "load", lambda *_: vlm)
        options = ModelOptions(choose_model(), CacheConfig(), Hints())
        Repl(options, GREEDY, ProgressLine(wanted=False), show_thinking=show).run("How many?")
        assert capsys.readouterr().out == "Six.\n"
        assert ("see" in errors.getvalue()) == show


def test_notes_are_printed_before_the_model_runs_and_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a note about reduced detail after the answer."""

    def chunks() -> Iterator[Chunk]:
        yield Chunk("", notes=ANSWER.notes)
        assert capsys.readouterr().err == "vlrun: limited\n"
        yield Chunk("six", answer=ANSWER)

    notes = NotePrinter(["rotated"])
    print_stream(chunks(), notes)
    print_notes(TaskRequest("How many?").result_of(ANSWER), notes)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("six\n", "")


def test_notes_printed_elsewhere_are_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    notes = NotePrinter()
    notes.skip(["rotated"])
    for _ in range(2):
        notes(["rotated", "limited"])
    assert capsys.readouterr().err == "vlrun: limited\n"


def test_stdout_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe may end on the terminal, and what is no stream at all has no descriptor."""
    reader, writer = os.pipe()
    with (tmp_path / "file").open("w") as file, os.fdopen(reader), os.fdopen(writer, "w") as pipe:
        for stdout, expected in ((file, True), (pipe, False), (io.StringIO(), False), (None, False)):
            monkeypatch.setattr("sys.stdout", stdout)
            assert stdout_is_file() == expected
