"""Requests to the engine, and the streams that return their tokens."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vlrun.engine.backend import AttentionTrace
from vlrun.engine.owner_process import OwnerProcess
from vlrun.engine.sampler import TokenSampler
from vlrun.errors import AnswerCancelled
from vlrun.kv_cache.block_hash import ImageSpan
from vlrun.types.answer import FinishReason, Progress
from vlrun.types.arrays import FloatArray, IntArray
from vlrun.vision.encoder_queue import Encodable


@dataclass(frozen=True)
class PromptImage:
    """An image of a prompt. Its visual tokens begin at token ``start``."""

    start: int
    source: Encodable

    @property
    def span(self) -> ImageSpan:
        """The image's visual tokens."""
        return ImageSpan(self.start, self.source.tokens, self.source.key)


@dataclass(frozen=True)
class Request:
    """A prompt of T tokens, and how to continue it.

    Attributes:
        ids: Token ids ``[T]``.
        positions: M-RoPE positions ``[3, T]``.
        images: Images of the prompt, in order.
        max_tokens: Limit on the output.
        eos: Ids that end the output.
        repetition_guard: End an output that runs into a loop.
        prompt_lookup: Verify several guessed tokens in one pass. Does not change the output.
        record_attention: Record queries and keys for heat maps.
    """

    ids: IntArray
    positions: IntArray
    images: tuple[PromptImage, ...]
    sampler: TokenSampler
    max_tokens: int
    eos: frozenset[int]
    repetition_guard: bool = True
    prompt_lookup: bool = True
    record_attention: bool = False


@dataclass
class RequestMetrics:
    """Times (``time.perf_counter``) and counts of one request.

    ``encoded`` is ``admitted`` and the time that images were waited for, which may be in several parts.
    The last four fields cover the tokens read from the stream; the engine may be ahead of the reader.
    """

    submitted: float = 0.0
    admitted: float | None = None
    encoded: float | None = None
    cached_tokens: int = 0
    first_token: float | None = None
    last_token: float | None = None
    forward_passes: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class TokenEvent:
    """A sampled token, its time, the forward passes so far and, if recorded, its ``queries [L, heads, head_dim]``."""

    token: int
    time: float
    forward_passes: int
    queries: npt.NDArray[np.float16] | None = None


StreamItem: TypeAlias = TokenEvent | Progress | FinishReason | BaseException


class Cancellation(Future[None]):
    """Cancels answers from another thread: readers get AnswerCancelled, and the engine drops the requests."""


class TokenStream:
    """The tokens of one request as they are sampled. The reader may ``close`` it at any time."""

    def __init__(self, wake_engine: Callable[[], None]) -> None:
        self._process = OwnerProcess()
        self.metrics = RequestMetrics()
        self.finish_reason: FinishReason | None = None
        self.prompt_keys: FloatArray | None = None
        """Keys of the prompt ``[L, T, kv_heads, head_dim]``, set with the first token if attention is recorded."""
        self.closed = threading.Event()
        self._queries: list[npt.NDArray[np.float16]] = []
        self._wake_engine = wake_engine
        self._queue: queue.SimpleQueue[StreamItem] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[int]:
        """Yield the tokens of ``items``, without progress."""
        return (item for item in self.items() if not isinstance(item, Progress))

    def items(self) -> Iterator[int | Progress]:
        """Yield progress, then tokens including the end token. Sets ``finish_reason`` at the end.

        Raises:
            AnswerCancelled: After ``close``.
            EngineClosed: In a forked process.
            VlrunError: The request failed in the engine.
        """
        while self.finish_reason is None:
            self._process.check()
            item = self._queue.get()
            if self.closed.is_set():
                raise AnswerCancelled("the answer was cancelled")
            if isinstance(item, BaseException):
                self._queue.put(item)  # for the next call
                raise item
            if isinstance(item, str):
                self.finish_reason = item
            elif isinstance(item, Progress):
                yield item
            else:
                self._count(item)
                yield item.token

    def _count(self, event: TokenEvent) -> None:
        metrics = self.metrics
        metrics.first_token = event.time if metrics.first_token is None else metrics.first_token
        metrics.last_token, metrics.forward_passes = event.time, event.forward_passes
        metrics.tokens += 1
        if event.queries is not None:
            self._queries.append(event.queries)

    @property
    def attention(self) -> AttentionTrace | None:
        """The recorded attention of the tokens read so far; None if there is none."""
        if self.prompt_keys is None or not self._queries:
            return None
        return AttentionTrace(np.stack(self._queries), self.prompt_keys)

    def close(self) -> None:
        """Cancel the request: the engine drops it at its next step. Safe to call from any thread."""
        if not self._process.is_this():
            return
        self.closed.set()
        self._queue.put(AnswerCancelled("the answer was cancelled"))  # wakes the reader
        self._wake_engine()

    def put(self, item: StreamItem) -> None:
        """Deliver an item; called by the engine."""
        self._queue.put(item)
