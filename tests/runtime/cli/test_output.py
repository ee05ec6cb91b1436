"""What the commands print, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vlrun.cli.output import NotePrinter, print_notes, print_stream
from vlrun.tasks.request import TaskRequest
from vlrun.types.answer import Answer, Chunk, Timings, Usage

ANSWER = Answer("six", "stop", Usage(10, 4, 0, 1, 1), Timings(0, 0, 0, 0, 0, 0, None, 0), notes=("limited", "rotated"))


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
