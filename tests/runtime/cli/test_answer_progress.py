"""What is shown of an answer before it is printed: never while a part of it stands on the line."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.runtime.cli.recording_line import RecordingLine
from vlrun.cli.answer_progress import AnswerProgress
from vlrun.perf.history import record
from vlrun.perf.profile import SpeedProfile
from vlrun.types.answer import Answer, Chunk, Progress, Timings, Usage

ANSWER = Answer("six", "stop", Usage(10, 4, 0, 1, 1), Timings(0, 0, 0, 0, 0, 0, None, 0))
PROGRESS = [Chunk("", progress=Progress(*given)) for given in (("vision", 0, 80), ("prefill", 0, 100))]
LAST = Chunk("", answer=ANSWER)


@pytest.fixture
def vlm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    return SimpleNamespace(
        manifest=SimpleNamespace(name="m"), fingerprint="f", image_encoder=SimpleNamespace(seconds={}, running=None)
    )


def watch(vlm: Any, chunks: list[Chunk], images: int = 1, **options: bool) -> list[str]:
    """Return what is shown, with the chunks that are passed on in between."""

    def stream() -> Generator[Chunk]:
        yield from chunks

    line = RecordingLine()
    for chunk in AnswerProgress(line, vlm, "hints", 97.0).watch(stream(), images, **options):
        line.shown.append(f"[{chunk.text or chunk.reasoning or ('end' if chunk.answer else 'nothing')}]")
    return line.shown


def test_the_line_is_cleared_before_the_first_word_and_never_shown_again(vlm: Any) -> None:
    """A chunk without text may come in the middle of an answer: the line would erase what is printed of it."""
    shown = watch(vlm, [*PROGRESS, Chunk("si"), Chunk(""), Chunk("x"), LAST])
    assert shown[:4] == ["reading the image: 0 s", "prefill: 0 s", "", "[si]"]
    assert not [text for text in shown[4:] if text and not text.startswith("[")]


def test_an_answer_that_is_printed_at_its_end_is_told(vlm: Any) -> None:
    shown = watch(vlm, [*PROGRESS, Chunk("si"), Chunk("x"), LAST], text_shown=False)
    assert shown == ["reading the image: 0 s", "prefill: 0 s", "[si]", "answering: 0 s", "[x]", "", "[end]", ""]


def test_progress_goes_on_behind_reasoning_that_is_printed(vlm: Any) -> None:
    """With --output the text is collected, perhaps for minutes. The reasoning needs the line until the text begins."""
    reasoning = [Chunk("", reasoning="Let"), Chunk("", reasoning=" me")]
    shown = watch(vlm, [*PROGRESS, *reasoning, Chunk("si"), Chunk("x"), LAST], text_shown=False)
    assert shown[2:] == ["", "[Let]", "", "[ me]", "", "[si]", "answering: 0 s", "[x]", "", "[end]", ""]


@pytest.mark.parametrize("shown", [True, False])
def test_hidden_reasoning_is_told(shown: bool, vlm: Any) -> None:
    """It may take minutes in which nothing is printed."""
    chunks = [Chunk("", reasoning="Let"), Chunk("", reasoning=" me"), Chunk("six"), LAST]
    texts = watch(vlm, chunks, thinking_shown=shown)
    assert texts[:3] == (["", "[Let]", ""] if shown else ["[Let]", "thinking: 0 s", "[ me]"])
    assert "[six]" in texts


def test_notes_have_the_line_for_themselves(vlm: Any) -> None:
    assert watch(vlm, [Chunk("", notes=("limited",)), LAST])[:2] == ["", "[nothing]"]


def test_an_error_clears_the_line(vlm: Any) -> None:
    def stream() -> Generator[Chunk]:
        yield PROGRESS[0]
        raise KeyboardInterrupt

    line = RecordingLine()
    with pytest.raises(KeyboardInterrupt):
        list(AnswerProgress(line, vlm, "hints", 97.0).watch(stream(), 1))
    assert line.shown[-1] == ""


def test_what_was_measured_tells_the_time_left(vlm: Any) -> None:
    """Also within an image, of which the model itself tells nothing."""
    record("f", "hints", SpeedProfile({80: 4.0}, prefill=0.02, load=6.0))
    line = RecordingLine()
    progress = AnswerProgress(line, vlm, "hints", 97.0)
    progress.preparing()
    assert line.shown == ["loading m: 50 %, 3 s left"]
    assert watch(vlm, PROGRESS)[:2] == ["reading the image: 0 %, 4 s left", "prefill: 0 %, 2 s left"]
    vlm.image_encoder.running = (80, 3.0)
    assert watch(vlm, PROGRESS)[0] == "reading the image: 75 %, 1 s left"
    vlm.image_encoder.running = (80, 9.0)  # busy: the estimate was too short
    assert watch(vlm, PROGRESS)[0] == "reading the image: 0 s"
    vlm.image_encoder.running = (80, 2.0)
    half = [Chunk("", progress=Progress("vision", 80, 160)), Chunk("", progress=Progress("prefill", 60, 100))]
    assert watch(vlm, half, images=2)[:2] == ["reading 2 images: 75 %, 2 s left", "prefill: 60 %, 1 s left"]


def test_a_second_question_does_not_load_again(vlm: Any) -> None:
    line = RecordingLine()
    progress = AnswerProgress(line, vlm, "hints", time.monotonic())
    progress.preparing()
    list(progress.watch((chunk for chunk in [LAST]), 0))
    progress.preparing()
    assert [text for text in line.shown if text] == ["loading m: 0 s", "preparing the question: 0 s"]
