"""Answers of tasks in the service, with fake models: limits, cancellation, notes, merged answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from tests.runtime.tasks.test_run import BOTTLES, COUNT, FakeVLM, counts, image
from vlrun.engine.request import Cancellation
from vlrun.errors import AnswerCancelled, InvalidAnswer
from vlrun.server.api_errors import api_error
from vlrun.server.task_answers import TaskAnswer, merged_answer, single_answer
from vlrun.tasks.request import TaskRequest
from vlrun.tasks.run import prepare_images
from vlrun.types.answer import Chunk, Progress
from vlrun.types.options import Options
from vlrun.types.turn import Turn
from vlrun.vlm import VLM


def merged(
    model: FakeVLM, task: TaskRequest, parallel: int = 1, cancellation: Cancellation | None = None
) -> list[Chunk]:
    """Run a task; return its chunks."""
    vlm, chunks = cast(VLM, model), list[Chunk]()
    images = prepare_images(vlm, [image()], task, Options())
    merged_answer(vlm, images, task, Options(), cancellation or Cancellation(), parallel, chunks.append)
    return chunks


class Watched(FakeVLM):
    """A model whose answers end with their cancellation, and of which ``most`` ran at once."""

    def __init__(self, *texts: str) -> None:
        super().__init__(*texts)
        self.running, self.most, self.cancelled = 0, 0, 0
        self.began, self._lock = threading.Semaphore(0), threading.Lock()
        self.may_answer = threading.Event()

    def chat(self, turns: Sequence[Turn], options: Options, *more: Any) -> Iterator[Chunk]:
        ended = threading.Event()

        def end(_: object) -> None:
            ended.set()
            self.may_answer.set()

        more[-1].add_done_callback(end)
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.began.release()
        try:
            assert self.may_answer.wait(60)
            if ended.is_set():
                self.cancelled += 1
                raise AnswerCancelled("the answer was cancelled")
            yield from super().chat(turns, options)
        finally:
            with self._lock:
                self.running -= 1


def test_no_more_votes_run_at_once_than_there_are_slots() -> None:
    model = Watched(*["6"] * 5)
    model.may_answer.set()
    (chunk,) = [chunk for chunk in merged(model, TaskRequest("?", votes=5), parallel=2) if chunk.answer]
    assert isinstance(chunk.answer, TaskAnswer)
    assert chunk.answer.votes == ({"": {"6": 5}},)
    assert 1 <= model.most <= 2


def test_a_cancellation_reaches_every_vote_and_waits_for_them() -> None:
    """A slot is free only when its thread is: afterwards no vote runs, and none begins."""
    model, cancellation = Watched(*["6"] * 8), Cancellation()

    def leave() -> None:
        for _ in range(3):
            model.began.acquire()
        cancellation.cancel()

    leaving = threading.Thread(target=leave)
    leaving.start()
    with pytest.raises(AnswerCancelled):
        merged(model, TaskRequest("?", votes=8), 3, cancellation)
    leaving.join()
    assert (model.running, model.cancelled) == (0, 3)
    assert not model.requests


def test_progress_and_notes_come_before_the_text() -> None:
    """Notes once, the progress of the first answer until one is complete, then the number of answers."""

    class Noting(FakeVLM):
        def chat(self, turns: Sequence[Turn], options: Options, *_: object) -> Iterator[Chunk]:
            assert options.progress
            yield Chunk("", notes=("smaller",))
            yield Chunk("", progress=Progress("vision", 1, 2))
            yield from super().chat(turns, options)

    chunks = merged(Noting("a", "b", "b"), TaskRequest("?", votes=3))
    assert [chunk.notes for chunk in chunks if chunk.notes] == [("smaller",)]
    assert [chunk.progress for chunk in chunks if chunk.progress] == [
        Progress("vision", 1, 2),
        *(Progress("votes", done, 3) for done in (1, 2, 3)),
    ]
    assert [chunk.text for chunk in chunks if chunk.text] == [chunks[-1].text] == ["b"]


def test_a_merged_answer_has_the_usage_of_all() -> None:
    answer = merged(FakeVLM("thoughts", "6"), TaskRequest("?", steps=True))[-1].answer
    assert isinstance(answer, TaskAnswer)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 6)
    assert (answer.text, answer.steps, answer.votes) == ("6", ("thoughts",), ())


def test_a_text_that_may_be_corrected_comes_at_the_end() -> None:
    """A stream showed the model's total, and its end another one."""
    task = TaskRequest(task=COUNT, arguments=BOTTLES)
    text = counts(6, 2, total=9)
    (last,) = FakeVLM(text).chat([], Options(schema={}))
    pieces = [Chunk(piece) for piece in (text[:9], text[9:])]
    first, second, whole = single_answer([*pieces, Chunk("", last.answer)], task)
    assert (first.text, second.text) == ("", "")
    assert whole.text == counts(6, 2)
    assert whole.answer is not None
    assert "answered a total of 9" in whole.answer.notes[0]


def test_votes_that_cannot_become_values_are_the_models_fault() -> None:
    """An object had a name twice, and the service answered 500."""

    class Invalid(FakeVLM):
        def chat(self, turns: Sequence[Turn], options: Options, *_: object) -> Iterator[Chunk]:
            (chunk,) = super().chat(turns, options)
            assert chunk.answer is not None
            raise InvalidAnswer("it has a name twice", chunk.answer)
            yield chunk

    with pytest.raises(InvalidAnswer) as caught:
        merged(Invalid("{}", "{}"), TaskRequest("?", votes=2))
    error = api_error(caught.value)
    assert (error.status, error.code) == (422, "invalid_answer")
