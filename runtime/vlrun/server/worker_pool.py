"""Answers for the event loop: the model's generators run in threads, what they yield arrives in coroutines.

What comes while the loop is busy, or sooner than anybody reads, is handed over together, so that a fast model and many
clients cost few wake-ups. Knows the model's ``chat`` and jobs; does not know HTTP.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import IntEnum
from typing import Any, TypeVar

from vlrun.engine.request import Cancellation
from vlrun.errors import AnswerCancelled
from vlrun.media.image import Image
from vlrun.server.generation_request import AnswerChunk, EncodedImage, GenerationRequest
from vlrun.server.images import open_encoded
from vlrun.server.limits import ServerLimits
from vlrun.types.answer import Chunk
from vlrun.types.sampling import MAX_SEED
from vlrun.types.turn import Turn
from vlrun.vlm import VLM

T = TypeVar("T")

EVERY = 0.05
"""At most so many seconds between two looks at an answer that goes on; its first text and its end never wait. A
real model's tokens come about as slowly; of a tiny one's hundreds a second each would cost the engine a part of its
processor.
"""


class WorkerPool:
    """The threads that work for requests: one for each answer that may be made at once, and two for short work."""

    def __init__(self, vlm: VLM, limits: ServerLimits) -> None:
        self._vlm = vlm
        self._limits = limits
        self._making = ThreadPoolExecutor(limits.parallel, thread_name_prefix="vlrun-answer")
        self._decoding = threading.Lock()
        self._short = ThreadPoolExecutor(2, thread_name_prefix="vlrun-request")

    async def short(self, work: Callable[[], T]) -> T:
        """Work that takes milliseconds, too many for the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._short, work)

    @asynccontextmanager
    async def answers(self, job: GenerationRequest) -> AsyncIterator[AsyncIterator[Sequence[AnswerChunk]]]:
        """The answers of a job whose turn it is, as they come: whatever has come since the last look. Of a job that is
        no stream only the last pieces come, with the answers. All are over at the end of the block, however it ends.

        The first piece raises ApiError for images, any of them what ``VLM.chat`` raises.
        """
        cancellation = Cancellation()
        mailbox = _Mailbox()
        batch = _Batch(lambda: self._begin(job, cancellation), mailbox, job.stream)
        makers = min(job.n, self._limits.parallel)
        work = [asyncio.get_running_loop().run_in_executor(self._making, batch.make) for _ in range(makers)]
        try:
            yield mailbox.pieces(job.n)
        finally:
            cancellation.cancel()
            await _finished(work)

    def _begin(self, job: GenerationRequest, cancellation: Cancellation) -> list[Generator[Chunk]]:
        turns = self.opened(job, cancellation)
        options = [replace(job.options, seed=_seed(job, index), progress=job.stream) for index in range(job.n)]
        return [self._vlm.chat(turns, option, job.tools, job.choice, cancellation) for option in options]

    def opened(self, job: GenerationRequest, cancellation: Cancellation) -> list[Turn]:
        """Its turns, with decoded images. To be called in a thread. Raises ApiError, and AnswerCancelled."""
        opened = []
        for turn in job.turns:
            parts = (part if isinstance(part, str) else self._decoded(part, cancellation) for part in turn.parts)
            details = tuple(part.detail for part in turn.parts if isinstance(part, EncodedImage))
            opened.append(Turn(turn.role, tuple(parts), turn.tool_calls, details))
        return opened

    def _decoded(self, image: EncodedImage, cancellation: Cancellation) -> Image:
        """One after the other: a large one takes several times its pixels for a moment."""
        with self._decoding:
            if cancellation.cancelled:
                raise AnswerCancelled("the answer was cancelled")
            return open_encoded(image, self._limits)

    def close(self) -> None:
        """Stop taking work; what runs ends by itself, or with the model."""
        self._making.shutdown(wait=False, cancel_futures=True)
        self._short.shutdown(wait=False, cancel_futures=True)


def _seed(job: GenerationRequest, index: int) -> int | None:
    """Each answer of a seeded job has a seed of its own."""
    seed = job.options.seed
    return None if seed is None else (seed + index) % (MAX_SEED + 1)


class _Batch:
    """The answers of one job, which some threads make, one after the other each. ``begin`` prepares them all."""

    def __init__(self, begin: Callable[[], list[Generator[Chunk]]], mailbox: _Mailbox, stream: bool) -> None:
        self._begin = begin
        self._mailbox = mailbox
        self._stream = stream
        self._left: Iterator[tuple[int, Generator[Chunk]]] | None = None
        self._lock = threading.Lock()

    def make(self) -> None:
        """Make answers until none is left."""
        try:
            while answer := self._next():
                index, chunks = answer
                silent = True
                for chunk in chunks:
                    awaited = chunk.answer is not None or (silent and chunk.text != "")
                    silent = silent and not chunk.text
                    if self._stream or chunk.answer:
                        self._mailbox.put(AnswerChunk(index, chunk), awaited)
        except BaseException as error:  # noqa: BLE001 - goes to whoever waits
            self._mailbox.put(error, True)

    def _next(self) -> tuple[int, Generator[Chunk]] | None:
        """The next to make; whoever comes first begins, the others wait for that."""
        with self._lock:
            if self._left is None:
                self._left = iter(())  # if it fails there is nothing for the others
                self._left = enumerate(self._begin())
            return next(self._left, None)


async def _finished(work: Sequence[asyncio.Future[Any]]) -> None:
    """Wait until all threads are done, even if whoever waits is cancelled meanwhile: their turn is over only then."""
    cancelled = False
    while pending := [future for future in work if not future.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            cancelled = True
    for future in work:
        if not future.cancelled():
            future.exception()  # seen, or never to be: nobody waits for it
    if cancelled:
        raise asyncio.CancelledError


def _joined(pieces: Iterable[AnswerChunk]) -> list[AnswerChunk]:
    """Pieces of one answer that came together, as one."""
    joined: list[AnswerChunk] = []
    for piece in pieces:
        before = joined[-1] if joined else None
        if before and before.index == piece.index and not before.chunk.progress and not piece.chunk.progress:
            chunks = before.chunk, piece.chunk
            whole = Chunk(
                chunks[0].text + chunks[1].text, chunks[1].answer, None, chunks[0].logprobs + chunks[1].logprobs
            )
            joined[-1] = AnswerChunk(piece.index, whole)
        else:
            joined.append(piece)
    return joined


class _Mailbox:
    """What threads hand to a coroutine."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[AnswerChunk | BaseException] = deque()
        self._arrived = asyncio.Event()
        self._lock = threading.Lock()
        self._told = _Told.NOTHING
        self._next = 0.0

    def put(self, item: AnswerChunk | BaseException, awaited: bool) -> None:
        """Hand over; ``awaited``: it must not wait for what comes after it. Called in a thread."""
        tell = _Told.NOW if awaited else _Told.SOON
        with self._lock:
            self._items.append(item)
            before, self._told = self._told, max(self._told, tell)
        if before < tell:
            try:
                self._loop.call_soon_threadsafe(self._arrived.set if tell is _Told.NOW else self._look_soon)
            except RuntimeError:  # the loop is closed: nobody is there any more
                raise AnswerCancelled("the service has stopped") from None

    def _look_soon(self) -> None:
        if self._loop.time() < self._next:
            self._loop.call_at(self._next, self._arrived.set)
        else:
            self._arrived.set()

    async def pieces(self, answers: int) -> AsyncIterator[Sequence[AnswerChunk]]:
        """All pieces of so many answers. Raises what a thread raised."""
        while answers:
            await self._arrived.wait()
            self._arrived.clear()
            self._next = (self._loop.time() // EVERY + 1) * EVERY  # all mailboxes at once: one wake-up for all streams
            with self._lock:
                items, self._told = list(self._items), _Told.NOTHING
                self._items.clear()
            pieces = _joined(item for item in items if isinstance(item, AnswerChunk))
            if pieces:
                yield pieces
            for item in items:
                if not isinstance(item, AnswerChunk):
                    raise item
            answers -= sum(piece.chunk.answer is not None for piece in pieces)


class _Told(IntEnum):
    """What the loop was told of what waits in a mailbox."""

    NOTHING = 0
    SOON = 1
    NOW = 2
