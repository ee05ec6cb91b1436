"""Answers for the event loop: the model's generators run in threads, what they yield arrives in coroutines.

What comes while the loop is busy is handed over together, so that a fast model and many clients cost few wake-ups.
Knows the model's ``chat`` and jobs; does not know HTTP.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from vlrun.answer import Chunk
from vlrun.engine.request import Cancellation
from vlrun.engine.sampler import MAX_SEED
from vlrun.errors import AnswerCancelled
from vlrun.media.image import Picture
from vlrun.question import Turn
from vlrun.service.job import EncodedPicture, Job
from vlrun.service.limits import Limits
from vlrun.service.pictures import open_encoded
from vlrun.vlm import VLM

T = TypeVar("T")


@dataclass(frozen=True)
class Piece:
    """A chunk of one of a job's answers."""

    index: int
    chunk: Chunk


class Workshop:
    """The threads that work for requests: one for each answer that may be made at once, and two for short work."""

    def __init__(self, vlm: VLM, limits: Limits) -> None:
        self._vlm = vlm
        self._limits = limits
        self._making = ThreadPoolExecutor(limits.parallel, thread_name_prefix="vlrun-answer")
        self._decoding = threading.Lock()
        self._short = ThreadPoolExecutor(2, thread_name_prefix="vlrun-request")

    async def short(self, work: Callable[[], T]) -> T:
        """Work that takes milliseconds, too many for the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._short, work)

    @asynccontextmanager
    async def answers(self, job: Job) -> AsyncIterator[AsyncIterator[Sequence[Piece]]]:
        """The answers of a job whose turn it is, as they come: whatever has come since the last look. All are over at
        the end of the block, however it ends.

        Raises ApiError for pictures, and what ``VLM.chat`` raises: before the block if the job itself is wrong.
        """
        cancellation = Cancellation()
        mailbox = _Mailbox()
        beginning = self._in_thread(lambda: self._begin(job, cancellation))
        work: list[asyncio.Future[Any]] = [beginning]
        try:
            to_make, lock = iter(enumerate(await asyncio.shield(beginning))), threading.Lock()
            makers = min(job.n, self._limits.parallel)
            work += [self._in_thread(lambda: _make(to_make, lock, mailbox)) for _ in range(makers)]
            yield mailbox.pieces(job.n)
        finally:
            cancellation.cancel()
            await _finished(work)

    def _in_thread(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._making, work)

    def _begin(self, job: Job, cancellation: Cancellation) -> list[Generator[Chunk]]:
        turns = self.opened(job)
        options = [replace(job.options, seed=_seed(job, index), progress=job.stream) for index in range(job.n)]
        return [self._vlm.chat(turns, option, job.tools, job.choice, cancellation) for option in options]

    def opened(self, job: Job) -> list[Turn]:
        """Its turns, with decoded pictures. To be called in a thread. Raises ApiError."""
        opened = []
        for turn in job.turns:
            parts = (part if isinstance(part, str) else self._decoded(part) for part in turn.parts)
            details = tuple(part.detail for part in turn.parts if isinstance(part, EncodedPicture))
            opened.append(Turn(turn.role, tuple(parts), turn.tool_calls, details))
        return opened

    def _decoded(self, picture: EncodedPicture) -> Picture:
        """One after the other: a large one takes several times its pixels for a moment."""
        with self._decoding:
            return open_encoded(picture, self._limits)

    def close(self) -> None:
        """Stop taking work; what runs ends by itself, or with the model."""
        self._making.shutdown(wait=False, cancel_futures=True)
        self._short.shutdown(wait=False, cancel_futures=True)


def _seed(job: Job, index: int) -> int | None:
    """Each answer of a seeded job has a seed of its own."""
    seed = job.options.seed
    return None if seed is None else (seed + index) % (MAX_SEED + 1)


def _make(answers: Iterator[tuple[int, Generator[Chunk]]], lock: threading.Lock, mailbox: _Mailbox) -> None:
    """Make one answer after the other, until none is left."""
    try:
        while True:
            with lock:
                index, chunks = next(answers, (-1, None))
            if chunks is None:
                return
            for chunk in chunks:
                mailbox.put(Piece(index, chunk))
    except BaseException as error:  # noqa: BLE001 - goes to whoever waits
        mailbox.put(error)


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


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Pieces of one answer that came together, as one."""
    joined: list[Piece] = []
    for piece in pieces:
        before = joined[-1] if joined else None
        if before and before.index == piece.index and not before.chunk.progress and not piece.chunk.progress:
            chunks = before.chunk, piece.chunk
            whole = Chunk(
                chunks[0].text + chunks[1].text, chunks[1].answer, None, chunks[0].logprobs + chunks[1].logprobs
            )
            joined[-1] = Piece(piece.index, whole)
        else:
            joined.append(piece)
    return joined


class _Mailbox:
    """What threads hand to a coroutine."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[Piece | BaseException] = deque()
        self._arrived = asyncio.Event()
        self._lock = threading.Lock()
        self._told = False

    def put(self, item: Piece | BaseException) -> None:
        """Hand over. Called in a thread."""
        with self._lock:
            self._items.append(item)
            told, self._told = self._told, True
        if not told:
            try:
                self._loop.call_soon_threadsafe(self._arrived.set)
            except RuntimeError:  # the loop is closed: nobody is there any more
                raise AnswerCancelled("the service has stopped") from None

    async def pieces(self, answers: int) -> AsyncIterator[Sequence[Piece]]:
        """All pieces of so many answers. Raises what a thread raised."""
        while answers:
            await self._arrived.wait()
            self._arrived.clear()
            with self._lock:
                items, self._told = list(self._items), False
                self._items.clear()
            pieces = _joined(item for item in items if isinstance(item, Piece))
            if pieces:
                yield pieces
            for item in items:
                if not isinstance(item, Piece):
                    raise item
            answers -= sum(piece.chunk.answer is not None for piece in pieces)
