"""The same question about each of many sources: several at once, in memory that does not grow with their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from vlrun.engine.request import Cancellation
from vlrun.errors import AnswerCutShort, ContextLengthExceeded, InvalidAnswer, MediaError, OptionError, VlrunError

S = TypeVar("S")
A = TypeVar("A")

MAX_PARALLEL = 8
"""Concurrent answers: as many as the engine batches."""
OWN_ERRORS = (MediaError, OptionError, ContextLengthExceeded, InvalidAnswer, AnswerCutShort)
"""Errors of one source, which say nothing about the others."""


@dataclass(frozen=True)
class Outcome(Generic[S, A]):
    """What became of one source.

    Attributes:
        source: The source, as it was given.
        answer: The answer; None after an error.
        error: Why there is no answer.
    """

    source: S
    answer: A | None = None
    error: VlrunError | None = None


def answer_each(
    sources: Iterable[S], answer: Callable[[S, Cancellation], A], parallel: int = MAX_PARALLEL
) -> Generator[Outcome[S, A]]:
    """Answer sources in ``parallel`` threads, and yield the outcomes in the order of the sources.

    At most twice as many sources are taken ahead, so that a slow one does not make the threads wait. Closing the
    generator cancels what is running.

    Args:
        sources: What to answer, taken one by one in the caller's thread.
        answer: Returns the answer, or raises; it ends early when its cancellation is cancelled.
        parallel: Number of threads.

    Raises:
        Exception: What ``answer`` or ``sources`` raise, except ``OWN_ERRORS`` of ``answer``.
    """
    running: deque[tuple[Future[Outcome[S, A]], Cancellation]] = deque()
    pool = ThreadPoolExecutor(parallel, "vlrun-each")
    try:
        for source in sources:
            cancellation = Cancellation()
            running.append((pool.submit(_outcome, source, answer, cancellation), cancellation))
            if len(running) == 2 * parallel:
                yield _first_of(running)
        while running:
            yield _first_of(running)
    finally:
        for _, cancellation in running:
            cancellation.cancel()
        pool.shutdown(wait=False, cancel_futures=True)


def _first_of(running: deque[tuple[Future[Outcome[S, A]], Cancellation]]) -> Outcome[S, A]:
    """Wait for the first outcome and remove it. If the wait is interrupted, it is still there to be cancelled."""
    outcome = running[0][0].result()
    running.popleft()
    return outcome


def _outcome(source: S, answer: Callable[[S, Cancellation], A], cancellation: Cancellation) -> Outcome[S, A]:
    try:
        return Outcome(source, answer(source, cancellation))
    except OWN_ERRORS as error:
        return Outcome(source, error=error.with_traceback(None))
