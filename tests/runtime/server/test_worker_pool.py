"""What threads make arrives in coroutines: at once where somebody waits for it, together where it comes too fast."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vlrun.engine.request import Cancellation
from vlrun.errors import AnswerCancelled, DeviceError
from vlrun.server.generation_request import AnswerChunk, EncodedImage, GenerationRequest, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.server.worker_pool import DELIVERY_SECONDS, WorkerPool
from vlrun.types.answer import Answer, Chunk, Progress
from vlrun.types.options import Options
from vlrun.vlm import VLM

LAST = cast(Answer, SimpleNamespace())


class Told:
    """A model that says what it was given, word by word, with a pause before each."""

    def __init__(self, words: int, pause: float = 0.0, fault: Exception | None = None) -> None:
        self._words, self._pause, self._fault = words, pause, fault

    def chat(self, *_: object) -> Iterator[Chunk]:
        for number in range(self._words):
            time.sleep(self._pause)
            yield Chunk(f"{number} ")
        if self._fault:
            raise self._fault
        yield Chunk("", answer=LAST)


def heard(model: Told, **asked: Any) -> tuple[list[Sequence[AnswerChunk]], float]:
    """What arrives of a job, look by look, and how many seconds it took."""

    async def listen() -> tuple[list[Sequence[AnswerChunk]], float]:
        pool = WorkerPool(cast(VLM, model), ServerLimits())
        began = time.monotonic()
        try:
            async with pool.answers(
                GenerationRequest((RequestMessage("user", ("hi",)),), Options(), **asked)
            ) as arriving:
                return [pieces async for pieces in arriving], time.monotonic() - began
        finally:
            pool.close()

    return asyncio.run(listen())


def text(looks: Sequence[Sequence[AnswerChunk]], index: int = 0) -> str:
    return "".join(piece.chunk.text for pieces in looks for piece in pieces if piece.index == index)


def test_a_fast_model_wakes_the_loop_seldom() -> None:
    """Guards the engine's processor: hundreds of tokens a second cost it a fifth of its speed."""
    looks, seconds = heard(Told(300, pause=0.001), stream=True)
    assert text(looks) == "".join(f"{number} " for number in range(300))
    assert len(looks) <= seconds / DELIVERY_SECONDS + 3
    assert len(looks) > 3
    assert looks[-1][-1].chunk.answer is LAST


def test_tokens_that_come_slowly_do_not_wait() -> None:
    """Guards the stream of a large model: each token is an event."""
    looks, _ = heard(Told(5, pause=2 * DELIVERY_SECONDS), stream=True)
    assert [text([pieces]) for pieces in looks][:4] == ["0 ", "1 ", "2 ", "3 "]  # the last may come with the end


def test_the_last_piece_does_not_wait() -> None:
    """Guards short answers: the end wakes the loop although the piece before it has just done so."""
    times = [heard(Told(2), stream=True)[1] for _ in range(5)]
    assert min(times) < DELIVERY_SECONDS / 2


def test_the_first_text_does_not_wait_for_what_was_told_before_it() -> None:
    """Guards the time to the first token: how far the prefill is was told a moment ago."""

    class Prefilling(Told):
        def chat(self, *_: object) -> Iterator[Chunk]:
            yield Chunk("", progress=Progress("prefill", 1, 1))
            time.sleep(DELIVERY_SECONDS / 10)
            yield Chunk("first")
            time.sleep(2 * DELIVERY_SECONDS)
            yield Chunk("", answer=LAST)

    async def listen() -> float:
        pool = WorkerPool(cast(VLM, Prefilling(0)), ServerLimits())
        began = time.monotonic()
        try:
            async with pool.answers(
                GenerationRequest((RequestMessage("user", ("hi",)),), Options(), stream=True)
            ) as arriving:
                async for pieces in arriving:
                    if text([pieces]):
                        return time.monotonic() - began
        finally:
            pool.close()
        raise AssertionError("no text")

    assert min(asyncio.run(listen()) for _ in range(5)) < DELIVERY_SECONDS / 2


def test_nobody_is_woken_for_pieces_that_nobody_reads() -> None:
    """Guards answers that are no streams: they come as one."""
    looks, _ = heard(Told(100, pause=0.001))
    assert [[piece.chunk.answer for piece in pieces] for pieces in looks] == [[LAST]]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_each_of_several_answers_arrives(count: int) -> None:
    """More answers than threads, too."""
    looks, _ = heard(Told(20), n=count, stream=True)
    for index in range(count):
        assert text(looks, index) == "".join(f"{number} " for number in range(20))


@pytest.mark.parametrize("count", [1, 5])
def test_what_goes_wrong_arrives_after_what_went_well(count: int) -> None:
    """Guards errors of one of several threads, of which the others do not know."""
    with pytest.raises(DeviceError, match="gone"):
        heard(Told(3, fault=DeviceError("gone")), n=count, stream=True)


def test_what_is_wrong_with_the_job_arrives_once() -> None:
    """Guards several answers of one request: its images are decoded once."""

    class Refusing(Told):
        begun = 0

        def chat(self, *_: object) -> Iterator[Chunk]:
            self.begun += 1
            raise DeviceError("no")

    model = Refusing(0)
    with pytest.raises(DeviceError, match="no"):
        heard(model, n=4, stream=True)
    assert model.begun == 1


def test_whoever_leaves_while_images_are_decoded_frees_the_turn_after_one() -> None:
    """Guards the turn of the next one from sixteen large images of somebody who has gone."""
    cancellation = Cancellation()
    cancellation.cancel()
    image = EncodedImage(b"this would be refused", "auto", "image")
    pool = WorkerPool(cast(VLM, Told(0)), ServerLimits())
    with pytest.raises(AnswerCancelled):
        pool.decode(GenerationRequest((RequestMessage("user", (image,)),)), cancellation)
    pool.close()
