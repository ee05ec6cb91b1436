"""Threads that run the model's generators; their chunks arrive in coroutines.

Chunks that come while the event loop is busy are delivered together, so that a fast model and many clients cost few
wake-ups.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from vlrun.engine.request import Cancellation
from vlrun.errors import AnswerCancelled, InvalidAnswer, OptionError, SchemaViolation
from vlrun.media.clip import Clip
from vlrun.media.image import Image
from vlrun.server.api_errors import bad_request
from vlrun.server.generation_request import AnswerChunk, GenerationRequest
from vlrun.server.images import as_requested, opened_encoded
from vlrun.server.limits import ServerLimits
from vlrun.server.request_decoder import RequestDecoder
from vlrun.server.task_answers import merged_answer, single_answer
from vlrun.tasks.request import TaskRequest
from vlrun.tasks.run import TaskImages, prepare_images
from vlrun.types.answer import Chunk
from vlrun.types.sampling import MAX_SEED
from vlrun.types.turn import Turn
from vlrun.vlm import VLM

T = TypeVar("T")

DELIVERY_SECONDS = 0.05
"""Chunks are delivered on multiples of it, for all streams at once; the first text and the end of an answer at once."""


class WorkerPool:
    """One thread for each answer that may be generated at once, two for short work, and one for images that belong to
    no answer.
    """

    def __init__(self, vlm: VLM, limits: ServerLimits) -> None:
        self._vlm = vlm
        self._limits = limits
        self.decoder = RequestDecoder(vlm, limits)
        self._answers = ThreadPoolExecutor(limits.parallel, thread_name_prefix="vlrun-answer")
        self._short = ThreadPoolExecutor(2, thread_name_prefix="vlrun-request")
        self._images = ThreadPoolExecutor(1, thread_name_prefix="vlrun-image")

    async def run(self, work: Callable[[], T]) -> T:
        """Run work that takes milliseconds, too many for the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._short, work)

    async def run_in_turn(self, work: Callable[[Cancellation], T]) -> T:
        """Run work that may take longer, in the thread of an answer; afterwards the thread is free, however it ends."""
        return await self._run_in(self._answers, work)

    async def run_on_image(self, work: Callable[[Cancellation], T]) -> T:
        """Run work on an image, one after another; afterwards the thread is free, however it ends."""
        return await self._run_in(self._images, work)

    async def _run_in(self, threads: ThreadPoolExecutor, work: Callable[[Cancellation], T]) -> T:
        cancellation = Cancellation()
        future = asyncio.get_running_loop().run_in_executor(threads, work, cancellation)
        try:
            await asyncio.wait([future])
            return future.result()
        finally:
            cancellation.cancel()
            await _wait_for([future])

    @asynccontextmanager
    async def answers(self, request: GenerationRequest) -> AsyncIterator[AsyncIterator[Sequence[AnswerChunk]]]:
        """Generate all answers of a request; their chunks come in batches. Without ``stream`` only the last chunk of
        each answer comes. At the end of the block, however it ends, all threads are done.

        Raises ApiError for images; the batches raise what ``VLM.chat`` raises.
        """
        cancellation, channel, loop = Cancellation(), _Channel(), asyncio.get_running_loop()
        work: list[asyncio.Future[Any]] = []
        try:
            begun = loop.run_in_executor(self._answers, self._jobs, request, cancellation)
            work.append(begun)
            await asyncio.wait(work)
            work += [loop.run_in_executor(self._answers, job, channel) for job in begun.result()]
            yield channel.batches(request.n)
        finally:
            cancellation.cancel()
            await _wait_for(work)

    def _jobs(self, request: GenerationRequest, cancellation: Cancellation) -> list[Callable[[_Channel], None]]:
        """What threads have to do for a request. Raises what is wrong with it."""
        if request.options.heatmap:
            self._check_recorder()
        if request.task is not None and not request.task.is_single:
            images = self._task_images(request, request.task, cancellation)
            return [functools.partial(self._merge_answers, request, request.task, images, cancellation)]
        if request.task is not None:
            chunks = self._single_answer(request, request.task, cancellation)
            return [functools.partial(_generate, 0, chunks, request.stream)]
        generators = self._generators(request, cancellation)
        return [functools.partial(_generate, index, chunks, request.stream) for index, chunks in enumerate(generators)]

    def _single_answer(
        self, request: GenerationRequest, task: TaskRequest, cancellation: Cancellation
    ) -> Iterator[Chunk]:
        options = replace(request.effective_options, progress=request.stream)
        images = self._decoded_images(request, cancellation)
        (question,) = task.questions()
        turn = Turn("user", (*images, question), details=(options.detail,) * len(images))
        chunks = self._vlm.chat([*task.opening(), turn], options, (), None, cancellation)
        return single_answer(_without_values(chunks), task)

    def _merge_answers(
        self,
        request: GenerationRequest,
        task: TaskRequest,
        images: TaskImages,
        cancellation: Cancellation,
        channel: _Channel,
    ) -> None:
        """Generate the answers of a task into the channel. Called in a thread, with a thread more for each of them."""

        def put(chunk: Chunk) -> None:
            if request.stream or chunk.answer:
                channel.put(AnswerChunk(0, chunk), urgent=True)

        try:
            parallel = min(request.parallel, self._limits.parallel)
            merged_answer(self._vlm, images, task, request.options, cancellation, parallel, put)
        except BaseException as error:  # noqa: BLE001 - raised again by `batches`
            channel.put(error, urgent=True)

    def _task_images(self, request: GenerationRequest, task: TaskRequest, cancellation: Cancellation) -> TaskImages:
        if task.tiles is None:
            images = self._decoded_images(request, cancellation)
            return prepare_images(self._vlm, images, task, request.effective_options)
        (image,) = request.images
        with (
            opened_encoded(image, self._limits, cancellation) as opened,
            _as_bad_request("vlrun.tiles"),
        ):
            return prepare_images(self._vlm, [as_requested(opened, image)], task, request.effective_options)

    def _decoded_images(self, request: GenerationRequest, cancellation: Cancellation) -> list[Image | Clip]:
        """The images of a task's single message, as the model sees them."""
        self.decoder.check_visual_tokens(request)
        turns = self.decoder.turns(request, cancellation)
        return [part for turn in turns for part in turn.parts if isinstance(part, Image | Clip)]

    def _generators(self, request: GenerationRequest, cancellation: Cancellation) -> list[Generator[Chunk]]:
        options = [
            replace(request.options, seed=_seed(request, index), progress=request.stream) for index in range(request.n)
        ]
        if request.raw:
            texts = [str(message.parts[0]) for message in request.messages]
            prompts = [texts[index * len(texts) // request.n] for index in range(request.n)]
            pairs = zip(prompts, options, strict=True)
            return [self._vlm.complete(prompt, each, cancellation) for prompt, each in pairs]
        self.decoder.check_visual_tokens(request)
        turns = self.decoder.turns(request, cancellation)
        return [self._vlm.chat(turns, each, request.tools, request.tool_choice, cancellation) for each in options]

    def _check_recorder(self) -> None:
        with _as_bad_request("vlrun.heatmap"):
            self._vlm.engine.check_recorder()

    def close(self) -> None:
        """Take no more work. What runs ends by itself, or with the model."""
        self._answers.shutdown(wait=False, cancel_futures=True)
        self._short.shutdown(wait=False, cancel_futures=True)
        self._images.shutdown(wait=False, cancel_futures=True)


def _seed(request: GenerationRequest, index: int) -> int | None:
    """Each answer of a seeded request has a seed of its own."""
    seed = request.options.seed
    return None if seed is None else (seed + index) % (MAX_SEED + 1)


@contextmanager
def _as_bad_request(param: str) -> Iterator[None]:
    try:
        yield
    except OptionError as error:
        raise bad_request(error.message, param) from None


def _generate(index: int, chunks: Iterable[Chunk], stream: bool, channel: _Channel) -> None:
    """Generate an answer into the channel. Called in a thread."""
    try:
        has_text = False
        for chunk in _without_values(chunks):
            new_text = bool(chunk.text or chunk.reasoning)
            urgent = chunk.answer is not None or bool(chunk.notes) or (new_text and not has_text)
            has_text = has_text or new_text
            if stream or chunk.answer:
                channel.put(AnswerChunk(index, chunk), urgent)
    except BaseException as error:  # noqa: BLE001 - raised again by `batches`
        channel.put(error, urgent=True)


def _without_values(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield the chunks of an answer; clients get its text, also if that cannot become a value."""
    try:
        yield from chunks
    except SchemaViolation:
        raise
    except InvalidAnswer as error:
        yield Chunk("", error.answer)


async def _wait_for(work: Sequence[asyncio.Future[Any]]) -> None:
    """Wait until all threads are done, even if cancelled meanwhile: the request's slot is free only then."""
    cancelled = False
    while pending := [future for future in work if not future.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            cancelled = True
    for future in work:
        if not future.cancelled():
            future.exception()  # mark as retrieved
    if cancelled:
        raise asyncio.CancelledError


def _merge(chunks: Iterable[AnswerChunk]) -> list[AnswerChunk]:
    """Join consecutive chunks of the same answer."""
    merged: list[AnswerChunk] = []
    for new in chunks:
        last = merged[-1] if merged else None
        if last and last.index == new.index and not last.chunk.progress and not new.chunk.progress:
            one, other = last.chunk, new.chunk
            joined = Chunk(
                one.text + other.text,
                other.answer,
                logprobs=one.logprobs + other.logprobs,
                reasoning=one.reasoning + other.reasoning,
                notes=one.notes + other.notes,
            )
            merged[-1] = AnswerChunk(new.index, joined)
        else:
            merged.append(new)
    return merged


class _Channel:
    """Chunks on their way from threads to a coroutine."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: list[AnswerChunk | BaseException] = []
        self._arrived = asyncio.Event()
        self._lock = threading.Lock()
        self._wake_level = 0  # of the waiting items: 0 the loop is not notified, 1 for the next delivery, 2 at once
        self._next_delivery = 0.0

    def put(self, item: AnswerChunk | BaseException, urgent: bool) -> None:
        """Called in a thread. ``urgent`` items are delivered at once."""
        level = 2 if urgent else 1
        with self._lock:
            self._items.append(item)
            before, self._wake_level = self._wake_level, max(self._wake_level, level)
        if before < level:
            try:
                self._loop.call_soon_threadsafe(self._arrived.set if urgent else self._wake_later)
            except RuntimeError:  # the loop is closed
                raise AnswerCancelled("the service has stopped") from None

    def _wake_later(self) -> None:
        if self._loop.time() < self._next_delivery:
            self._loop.call_at(self._next_delivery, self._arrived.set)
        else:
            self._arrived.set()

    async def batches(self, answers: int) -> AsyncIterator[Sequence[AnswerChunk]]:
        """All chunks of so many answers. Raises what a thread raised."""
        while answers:
            await self._arrived.wait()
            self._arrived.clear()
            self._next_delivery = (self._loop.time() // DELIVERY_SECONDS + 1) * DELIVERY_SECONDS
            with self._lock:
                items, self._items, self._wake_level = self._items, [], 0
            chunks = _merge(item for item in items if isinstance(item, AnswerChunk))
            if chunks:
                yield chunks
            for item in items:
                if isinstance(item, BaseException):
                    raise item
            answers -= sum(chunk.chunk.answer is not None for chunk in chunks)
