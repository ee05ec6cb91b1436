"""Chunks from worker threads arrive in coroutines: urgent ones at once, fast ones in batches."""

from __future__ import annotations

import asyncio
import io
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from PIL import Image as PILImage

from vlrun.engine.request import Cancellation
from vlrun.errors import AnswerCancelled, DeviceError, InvalidAnswer, OptionError, SchemaViolation
from vlrun.media.image import DECODING, Image
from vlrun.server import worker_pool
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import AnswerChunk, EncodedImage, GenerationRequest, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.server.worker_pool import DELIVERY_SECONDS, WorkerPool
from vlrun.types.answer import Answer, Chunk, Progress
from vlrun.types.options import Options
from vlrun.vlm import VLM

ANSWER = cast(Answer, SimpleNamespace())


class FakeModel:
    """A model that yields numbered chunks with a pause before each, then an error or the answer."""

    def __init__(self, count: int, pause: float = 0.0, error: Exception | None = None) -> None:
        self._count, self._pause, self._error = count, pause, error

    def chat(self, *_: object) -> Iterator[Chunk]:
        for number in range(self._count):
            time.sleep(self._pause)
            yield Chunk(f"{number} ")
        if self._error:
            raise self._error
        yield Chunk("", answer=ANSWER)


def generate(model: FakeModel, **options: Any) -> tuple[list[Sequence[AnswerChunk]], float]:
    """Run a request; return the batches that arrived and the seconds it took."""

    async def listen() -> tuple[list[Sequence[AnswerChunk]], float]:
        pool = WorkerPool(cast(VLM, model), ServerLimits())
        began = time.monotonic()
        try:
            async with pool.answers(
                GenerationRequest((RequestMessage("user", ("hi",)),), Options(), **options)
            ) as batches:
                return [chunks async for chunks in batches], time.monotonic() - began
        finally:
            pool.close()

    return asyncio.run(listen())


def text(batches: Sequence[Sequence[AnswerChunk]], index: int = 0) -> str:
    return "".join(chunk.chunk.text for chunks in batches for chunk in chunks if chunk.index == index)


def test_a_fast_model_wakes_the_loop_rarely() -> None:
    """Guards throughput: a wake-up per token cost a fifth of the decoding speed at hundreds of tokens a second."""
    batches, seconds = generate(FakeModel(300, pause=0.001), stream=True)
    assert text(batches) == "".join(f"{number} " for number in range(300))
    assert len(batches) <= seconds / DELIVERY_SECONDS + 3
    assert len(batches) > 3
    assert batches[-1][-1].chunk.answer is ANSWER


def test_an_answer_that_cannot_become_a_value_is_an_answer() -> None:
    """Clients get text: values are for Python."""
    batches, _ = generate(FakeModel(3, error=InvalidAnswer("it has a name twice", ANSWER)), stream=True)
    assert text(batches) == "0 1 2 "
    assert batches[-1][-1].chunk.answer is ANSWER


def test_an_answer_that_violates_its_schema_is_an_error() -> None:
    """It looked like a valid answer."""
    with pytest.raises(SchemaViolation):
        generate(FakeModel(3, error=SchemaViolation("it violates the schema", ANSWER)), stream=True)


def test_slow_tokens_are_delivered_one_by_one() -> None:
    batches, _ = generate(FakeModel(5, pause=2 * DELIVERY_SECONDS), stream=True)
    assert [text([chunks]) for chunks in batches][:4] == ["0 ", "1 ", "2 ", "3 "]  # the last may come with the end


def test_the_last_chunk_is_not_delayed() -> None:
    """It wakes the loop even directly after another delivery."""
    times = [generate(FakeModel(2), stream=True)[1] for _ in range(5)]
    assert min(times) < DELIVERY_SECONDS / 2


def test_joined_chunks_keep_their_notes() -> None:
    """Notes come before the text; a slow client gets both in one chunk."""
    chunks = [Chunk("", notes=("smaller",)), Chunk("a"), Chunk("b", answer=ANSWER)]
    (joined,) = worker_pool._merge([AnswerChunk(0, chunk) for chunk in chunks])
    assert joined == AnswerChunk(0, Chunk("ab", ANSWER, notes=("smaller",)))


def test_the_first_text_is_not_delayed_by_progress() -> None:
    """Guards TTFT: prefill progress was delivered a moment before."""

    class Prefilling(FakeModel):
        def chat(self, *_: object) -> Iterator[Chunk]:
            yield Chunk("", progress=Progress("prefill", 1, 1))
            time.sleep(DELIVERY_SECONDS / 10)
            yield Chunk("first")
            time.sleep(2 * DELIVERY_SECONDS)
            yield Chunk("", answer=ANSWER)

    async def listen() -> float:
        pool = WorkerPool(cast(VLM, Prefilling(0)), ServerLimits())
        began = time.monotonic()
        try:
            async with pool.answers(
                GenerationRequest((RequestMessage("user", ("hi",)),), Options(), stream=True)
            ) as batches:
                async for chunks in batches:
                    if text([chunks]):
                        return time.monotonic() - began
        finally:
            pool.close()
        raise AssertionError("no text")

    assert min(asyncio.run(listen()) for _ in range(5)) < DELIVERY_SECONDS / 2


def test_without_stream_only_the_answer_is_delivered() -> None:
    batches, _ = generate(FakeModel(100, pause=0.001))
    assert [[chunk.chunk.answer for chunk in chunks] for chunks in batches] == [[ANSWER]]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_each_of_several_answers_arrives(count: int) -> None:
    """Also with more answers than threads."""
    batches, _ = generate(FakeModel(20), n=count, stream=True)
    for index in range(count):
        assert text(batches, index) == "".join(f"{number} " for number in range(20))


@pytest.mark.parametrize("count", [1, 5])
def test_an_error_is_raised_in_the_coroutine(count: int) -> None:
    """Also if only one of several threads fails."""
    with pytest.raises(DeviceError, match="gone"):
        generate(FakeModel(3, error=DeviceError("gone")), n=count, stream=True)


def test_an_error_of_the_request_is_raised_once() -> None:
    """The images of a request with several answers are decoded once."""

    class Refusing(FakeModel):
        calls = 0

        def chat(self, *_: object) -> Iterator[Chunk]:
            self.calls += 1
            raise DeviceError("no")

    model = Refusing(0)
    with pytest.raises(DeviceError, match="no"):
        generate(model, n=4, stream=True)
    assert model.calls == 1


def test_decoding_stops_when_the_client_has_disconnected() -> None:
    """Otherwise sixteen large images would be decoded before the slot is free."""
    cancellation = Cancellation()
    cancellation.cancel()
    image = EncodedImage(b"this would be refused", "auto", "image")
    pool = WorkerPool(cast(VLM, FakeModel(0)), ServerLimits())
    with pytest.raises(AnswerCancelled):
        pool.decoder.turns(GenerationRequest((RequestMessage("user", (image,)),)), cancellation)
    pool.close()


class FakeBuilder:
    """Resizes images, and remembers whether those before are still in memory."""

    def __init__(self) -> None:
        self.seen: list[weakref.ref[Any]] = []
        self.alive: list[int] = []

    def resize(self, image: Image, *_: object) -> Image:
        self.seen.append(weakref.ref(image.rgb))
        self.alive.append(sum(one() is not None for one in self.seen))
        assert DECODING.held >= image.rgb.shape[0] * image.rgb.shape[1]
        return replace(image, rgb=image.rgb[:1].copy())


def test_one_decoded_image_is_in_memory_at_a_time() -> None:
    """Each thread kept the pixels of its last image while it waited to decode the next: 441 MB for 49 megapixels."""
    file = io.BytesIO()
    PILImage.new("RGB", (64, 64)).save(file, "PNG")
    encoded = EncodedImage(file.getvalue(), "auto", "messages")
    builder = FakeBuilder()
    model = cast(VLM, SimpleNamespace(builder=builder))
    pool = WorkerPool(model, ServerLimits())
    (turn,) = pool.decoder.turns(GenerationRequest((RequestMessage("user", (encoded,) * 4),)), Cancellation())
    pool.close()
    assert len(turn.parts) == 4
    assert builder.alive == [1, 1, 1, 1]


def test_work_in_turn_holds_its_thread_until_it_ends() -> None:
    """A client that left a request for token counts freed its slot while its images were still being decoded."""

    async def leave() -> None:
        pool = WorkerPool(cast(VLM, None), ServerLimits())
        begun, cancelled = threading.Event(), threading.Event()

        def work(cancellation: Cancellation) -> None:
            cancellation.add_done_callback(lambda _: cancelled.set())
            begun.set()
            assert cancelled.wait(30)

        task = asyncio.ensure_future(pool.run_in_turn(work))
        await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cancelled.is_set()
        pool.close()

    asyncio.run(leave())


def test_a_heat_map_that_the_backend_cannot_record_is_refused_by_name() -> None:
    """A GPU and ONNX Runtime: before an image is decoded or a stream begins."""

    def refuse() -> None:
        raise OptionError("heat maps need the device CPU")

    model = FakeModel(1)
    model.engine = SimpleNamespace(check_recorder=refuse)  # type: ignore[attr-defined]

    async def listen() -> None:
        pool = WorkerPool(cast(VLM, model), ServerLimits())
        try:
            request = GenerationRequest((RequestMessage("user", ("hi",)),), Options(heatmap=True))
            async with pool.answers(request):
                pass
        finally:
            pool.close()

    with pytest.raises(ApiError, match="heat maps need the device CPU") as caught:
        asyncio.run(listen())
    assert (caught.value.status, caught.value.param) == (400, "vlrun.heatmap")
