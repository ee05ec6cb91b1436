"""What the engine is asked for, and the stream that its tokens come through.

Knows ids, positions and features; knows neither text nor images, nor when anything runs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vlrun.engine.backend import AttentionTrace
from vlrun.engine.sampler import TokenSampler
from vlrun.errors import AnswerCancelled
from vlrun.kv_cache.block_hash import ImageSpan
from vlrun.types.answer import FinishReason, Progress
from vlrun.types.arrays import FloatArray, IntArray

Stopped: TypeAlias = Callable[[], bool]
"""Asked now and then during long work: true means that nobody waits for it any more."""


@dataclass(frozen=True)
class PendingImage:
    """Visual tokens at their place in the prompt. ``encode`` makes their features ``[1 + deepstack, tokens, hidden]``;
    it is called in the engine's vision thread, and only if they are not known.
    """

    span: ImageSpan
    encode: Callable[[Stopped], FloatArray]


@dataclass(frozen=True)
class Request:
    """One prompt: ``ids [T]``, M-RoPE ``positions [3, T]``, its images, and how to go on.

    Generation ends after ``max_tokens``, after a token of ``eos``, or with ``guard`` when it goes round in a circle.
    With ``lookup``, tokens that the text so far suggests, or that must come, are tried several at a time; the outcome
    is the same. With
    ``watch``, the stream tells what its tokens looked at.
    """

    ids: IntArray
    positions: IntArray
    images: tuple[PendingImage, ...]
    chooser: TokenSampler
    max_tokens: int
    eos: frozenset[int]
    guard: bool = True
    lookup: bool = True
    watch: bool = False


@dataclass
class RequestMetrics:
    """How an answer was made: moments by ``time.perf_counter`` and counts of tokens. ``first``, ``last``, ``passes``
    and ``tokens`` speak of the tokens that were read: the engine may be ahead.
    """

    submitted: float = 0.0
    begun: float | None = None
    seen: float | None = None
    first: float | None = None
    last: float | None = None
    cached: int = 0
    passes: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class TokenEvent:
    """A token, when it was there, and the decoder's passes up to it; if it is watched, also the queries that it came
    from, ``[L, heads, head_dim]``.
    """

    token: int
    at: float
    passes: int
    queries: npt.NDArray[np.float16] | None = None


@dataclass(frozen=True)
class FinishEvent:
    """The end mark of a stream."""

    reason: FinishReason


StreamItem: TypeAlias = TokenEvent | Progress | FinishEvent | BaseException


class Cancellation:
    """Ends answers from any thread: whoever reads them gets AnswerCancelled, and the engine drops them at its next
    step, prefill chunk or look at an image.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._ends: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        """Whether that was said."""
        return self._cancelled

    def cancel(self) -> None:
        """End all answers that are made with it, and those that will be."""
        with self._lock:
            self._cancelled = True
            ends, self._ends = self._ends, []
        for end in ends:
            end()

    def watch(self, end: Callable[[], None]) -> None:
        """Have ``end`` called when it is cancelled; now, if it is."""
        with self._lock:
            if not self._cancelled:
                self._ends.append(end)
                return
        end()


class TokenStream:
    """The tokens of one answer as they come. Whoever reads it may leave at any time: ``close`` it."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.figures = RequestMetrics()
        self.reason: FinishReason | None = None
        self.keys: FloatArray | None = None
        """Of a watched prompt, ``[L, T, kv_heads, head_dim]``, from the first token on."""
        self._queries: list[npt.NDArray[np.float16]] = []
        self._wake = wake
        self._closed = threading.Event()
        self._arrived: queue.SimpleQueue[StreamItem] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[int]:
        """Tokens, the ending one included; otherwise as ``items``."""
        return (item for item in self.items() if not isinstance(item, Progress))

    def items(self) -> Iterator[int | Progress]:
        """Progress, then tokens, the ending one included; afterwards ``reason`` says why it ended. Raises what went
        wrong, and AnswerCancelled once it is closed.
        """
        while self.reason is None:
            item = self._arrived.get()
            if self.closed:
                raise AnswerCancelled("the answer was cancelled")
            if isinstance(item, BaseException):
                self._arrived.put(item)  # for whoever asks again
                raise item
            if isinstance(item, FinishEvent):
                self.reason = item.reason
            elif isinstance(item, Progress):
                yield item
            else:
                figures = self.figures
                figures.first = item.at if figures.first is None else figures.first
                figures.last, figures.passes = item.at, item.passes
                figures.tokens += 1
                if item.queries is not None:
                    self._queries.append(item.queries)
                yield item.token

    @property
    def watched(self) -> AttentionTrace | None:
        """What the tokens that were read so far looked at; None if the request is not watched, or none was read."""
        if self.keys is None or not self._queries:
            return None
        return AttentionTrace(np.stack(self._queries), self.keys)

    @property
    def closed(self) -> bool:
        """Nobody reads it any more."""
        return self._closed.is_set()

    def close(self) -> None:
        """Leave: the engine drops the answer at its next step, and everything it holds. May be called in any thread."""
        self._closed.set()
        self._arrived.put(AnswerCancelled("the answer was cancelled"))  # wakes whoever reads
        self._wake()

    def put(self, item: StreamItem) -> None:
        """For the engine: hand over a token, the end mark or an error."""
        self._arrived.put(item)
