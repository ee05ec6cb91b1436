"""The engine: one thread that owns the decoder and answers requests, several at a time.

Callers submit requests and read token streams. The engine thread does the rest, one iteration after another: process
messages, drop requests whose reader left, admit waiting requests, run a forward pass, deliver tokens.
"""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat

import numpy as np

from vlrun.engine.backend import Decoder, SequenceStep, StepOutput
from vlrun.engine.request import Request, TokenEvent, TokenStream
from vlrun.engine.scheduler import Scheduler, SchedulerConfig
from vlrun.engine.sequence import Sequence
from vlrun.engine.watchdog import EngineState, Watchdog
from vlrun.errors import (
    ContextLengthExceeded,
    DeviceError,
    EngineClosed,
    InferenceCancelled,
    ModelChanged,
    OptionError,
    VlrunError,
    as_vlrun_error,
    is_panic,
)
from vlrun.kv_cache.block_pool import BlockPool, BlockTable, OutOfBlocks
from vlrun.kv_cache.prefix_store import PrefixStore, StoredPrefix
from vlrun.types.answer import Progress
from vlrun.vision.encoder_queue import EncoderQueue, Encoding
from vlrun.vision.feature_cache import FeatureCache
from vlrun.vision.features import ImageFeatures

MIB = 2**20
FEATURE_BUDGET, TAIL_BUDGET = 192 * MIB, 64 * MIB
"""Bytes. In the 2B model the features of a 1024 x 768 image take 25 MB, those of its last 31 tokens 1 MB."""
MAX_STORING = 2
"""Prefixes being written to disk at once, each held in memory. Further ones are not stored."""


@dataclass
class _PendingFeatures:
    """An image in the encoder queue, and the sequences (with the index of the image) that wait for it."""

    encoding: Encoding
    waiting: list[tuple[Sequence, int]] = field(default_factory=list)


class Engine:
    """Answers requests with one decoder.

    Args:
        decoder: The backend's decoder.
        encoder: Encodes images.
        root: Hash of the model and its settings, the root of all block hashes.
        config: Limits of a forward pass.
        store: Image prefixes on disk.
    """

    def __init__(
        self,
        decoder: Decoder,
        encoder: EncoderQueue,
        root: bytes,
        config: SchedulerConfig | None = None,
        store: PrefixStore | None = None,
    ) -> None:
        self.pool = BlockPool(decoder.blocks, decoder.block_size)
        self.features = FeatureCache(FEATURE_BUDGET, decoder.block_size - 1, TAIL_BUDGET)
        self.decoder = decoder
        self.encoder = encoder
        self._root = root
        self._scheduler = Scheduler(self.pool, config or SchedulerConfig())
        self._pending: dict[bytes, _PendingFeatures] = {}
        self._store = store
        self._store_queue: queue.SimpleQueue[StoredPrefix | None] = queue.SimpleQueue()
        self._storing: set[bytes] = set()
        self._store_reading = threading.Lock()
        self._watchdog = Watchdog()
        self._messages: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._changed_model: ModelChanged | None = None
        targets = {"engine": self._run} | ({"store": self._write_prefixes} if store else {})
        self._threads = [
            threading.Thread(target=run, name=f"vlrun-{name}", daemon=True) for name, run in targets.items()
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> TokenStream:
        """Queue a request.

        Raises:
            ContextLengthExceeded: The KV cache is too small for it.
            OptionError: The request records attention, which this decoder cannot do.
            EngineClosed: After ``close``.
        """
        if request.record_attention:
            self.check_recorder()
        capacity, needed = self.pool.blocks * self.pool.block_size, len(request.ids) + request.max_tokens
        if needed > capacity:
            raise ContextLengthExceeded(
                f"prompt and answer may take {needed} tokens, but the KV cache holds {capacity}"
            )
        stream = TokenStream(self._wake)
        stream.metrics.submitted = time.perf_counter()
        sequence = Sequence(request, stream, self.pool, self._root)
        prefix = self._stored_prefix(sequence)  # in the caller's thread, so that running answers do not wait
        with self._changed:
            if self._closing:
                raise copy.copy(self._changed_model) or EngineClosed("the model is closed")
            if self._idle():
                self._watchdog.reset()
            self._messages.append(partial(self._enqueue, sequence, prefix))
            self._changed.notify()
        return stream

    def check_recorder(self) -> None:
        """Raise OptionError if this decoder cannot record attention."""
        if self.decoder.recorder is None:
            raise OptionError("heat maps need the device CPU, and a model for OpenVINO with readable attention layers")
        self.decoder.recorder.check()

    def state(self) -> EngineState:
        """Return the current state. Safe to call from any thread."""
        idle, pool = self._idle(), self.pool
        alive = not self._closing and all(thread.is_alive() for thread in self._threads)
        return EngineState(
            progressing=alive and (idle or self._watchdog.progressing()),
            stalled_seconds=0.0 if idle else self._watchdog.stalled_seconds,
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting) + len(self._messages),
            encoding=len(self._pending),
            storing=len(self._storing),
            blocks=pool.blocks,
            free_blocks=pool.free,
            cached_blocks=pool.published,
            block_bytes=self.decoder.block_bytes,
            feature_bytes=self.features.nbytes,
        )

    def close(self) -> None:
        """Stop at once: running answers end with EngineClosed. Afterwards no thread runs and no file is incomplete."""
        self.stop()
        decoder_thread, *store_threads = self._threads
        decoder_thread.join()
        self._store_queue.put(None)
        for thread in store_threads:
            thread.join()

    def stop(self) -> None:
        """Tell the threads to stop, without waiting. Safe to call from any thread at any time."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _idle(self) -> bool:
        return not (self._messages or self._scheduler.running or self._scheduler.waiting or self._pending)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _post(self, message: Callable[[], None]) -> None:
        """Queue a call for the engine thread."""
        self._messages.append(message)
        self._wake()

    def _run(self) -> None:
        try:
            while not self._closing:
                try:
                    self._iterate()
                except InferenceCancelled:
                    continue  # all readers have left, or the engine closes
                except ModelChanged as error:
                    self._changed_model = error
                    self._fail_all(error)
                    return
                except VlrunError as error:
                    self._fail_all(error)
                except BaseException as error:  # fails the running requests; later ones are served
                    if not isinstance(error, Exception) and not is_panic(error):
                        raise
                    self._fail_all(DeviceError(f"the device failed: {error}"))
        finally:
            with self._changed:
                self._closing = True
            while self._messages:
                with suppress(Exception):
                    self._messages.popleft()()
            self._fail_all(self._changed_model or EngineClosed("the model was closed before the answer was complete"))

    def _iterate(self) -> None:
        while self._messages:
            self._messages.popleft()()
        for sequence in [*self._scheduler.waiting, *self._scheduler.running]:
            if sequence.stream.closed.is_set():
                self._scheduler.drop(sequence)
        admitted = self._scheduler.admit()
        for sequence in self._scheduler.running:
            requested = False
            while wanted := sequence.wanted_images():  # again if all of them are in the cache
                requested = True
                for index in wanted:
                    self._request_features(sequence, index)
            if requested or sequence in admitted:
                sequence.report_progress()
        steps = self._scheduler.schedule()
        if not steps:
            self._wait()
            return
        streams = [sequence.stream for sequence, _ in steps]
        outputs = self.decoder.forward(
            [step for _, step in steps], lambda: self._closing or all(stream.closed.is_set() for stream in streams)
        )
        self._watchdog.reset()
        for (sequence, step), output in zip(steps, outputs, strict=True):
            self._deliver(sequence, step, output)

    def _wait(self) -> None:
        """Sleep until a message arrives or a reader leaves."""
        with self._changed:
            sequences = [*self._scheduler.waiting, *self._scheduler.running]
            self._changed.wait_for(
                lambda: self._messages or self._closing or any(one.stream.closed.is_set() for one in sequences)
            )

    def _deliver(self, sequence: Sequence, step: SequenceStep, output: StepOutput) -> None:
        """Put the result of a step into the sequence's stream."""
        stream = sequence.stream
        try:
            tokens, reason = sequence.process(step, output)
        except VlrunError as error:  # concerns this request only
            self._scheduler.drop(sequence)
            stream.put(error)
            return
        now = time.perf_counter()
        if not tokens:
            stream.put(Progress("prefill", sequence.table.length, sequence.prompt_length))
        if tokens and sequence.request.record_attention and self.decoder.recorder and stream.prompt_keys is None:
            stream.prompt_keys = self.decoder.recorder.read_keys(sequence.table.blocks, sequence.prompt_length)
        queries = repeat(None) if output.queries is None else output.queries.astype(np.float16)
        for token, token_queries in zip(tokens, queries, strict=False):
            stream.put(TokenEvent(token, now, sequence.forward_passes, token_queries))
        if reason:
            stream.put(reason)
        if tokens and not sequence.stored:
            sequence.stored = True
            with suppress(OSError, MemoryError, ValueError, RuntimeError):  # the answer does not depend on it
                self._store_prefix(sequence)
        if reason:
            self._scheduler.drop(sequence)

    def _fail_all(self, error: VlrunError) -> None:
        """End every request with an error."""
        for sequence in [*self._scheduler.waiting, *self._scheduler.running]:
            self._scheduler.drop(sequence)
            sequence.stream.put(error)

    def _request_features(self, sequence: Sequence, index: int) -> None:
        """Take an image's features from the cache, or wait for the encoder queue."""
        image = sequence.request.images[index]
        key = image.source.key
        features = self.features.get(key, image.source.tokens, max(0, sequence.table.length - image.start))
        if features is not None:
            sequence.add_features(index, features)
            return
        pending = self._pending.get(key)
        if pending is None:
            encoding = self.encoder.submit(image.source, sequence.stream.closed)
            pending = self._pending[key] = _PendingFeatures(encoding)
            encoding.features.add_done_callback(lambda done: self._post(partial(self._on_features, key, done)))
        else:
            pending.encoding.requesters.append(sequence.stream.closed)
        pending.waiting.append((sequence, index))

    def _on_features(self, key: bytes, encoded: Future[ImageFeatures]) -> None:
        """Pass an image's features, or the error, to the sequences that wait for them."""
        self._watchdog.reset()
        waiting = self._pending.pop(key).waiting
        error = encoded.exception()
        if isinstance(error, InferenceCancelled):
            for sequence, index in waiting:  # a sequence may have joined after the cancellation
                if not sequence.stream.closed.is_set():
                    self._request_features(sequence, index)
        elif isinstance(error, ModelChanged):
            raise error  # nothing that the model computes from now on can be right
        elif error is not None:
            for sequence, _ in waiting:
                self._scheduler.drop(sequence)
                sequence.stream.put(as_vlrun_error(error))
        else:
            self.features.put(key, encoded.result())
            for sequence, index in waiting:
                sequence.add_features(index, encoded.result())
                sequence.report_progress()

    def _stored_prefix(self, sequence: Sequence) -> StoredPrefix | None:
        """Read a prompt's stored prefix if it is longer than the cached one.

        One caller reads at a time, because the next one often needs the same prefix.
        """
        if not self._store or not sequence.request.images or self._closing:
            return None
        hashes = sequence.prompt_hashes()
        with self._store_reading, suppress(OSError, MemoryError, ValueError):  # without it the prefix is computed
            keys = [image.source.key for image in sequence.request.images]
            prefix = self._store.longest(hashes, len(self.pool.find(hashes)), keys)
            if prefix and prefix.blocks.shape[1] == self.decoder.block_bytes:
                return prefix
        return None

    def _enqueue(self, sequence: Sequence, prefix: StoredPrefix | None) -> None:
        """Queue a sequence and load its stored prefix into the KV cache."""
        self._scheduler.waiting.append(sequence)
        if not prefix or sequence.stream.closed.is_set() or self._closing:
            return
        if len(self.pool.find(prefix.hashes)) < len(prefix.hashes):
            with suppress(OutOfBlocks, MemoryError, ValueError, RuntimeError):  # without it the prefix is computed
                self._load_prefix(prefix)

    def _load_prefix(self, prefix: StoredPrefix) -> None:
        """Write a stored prefix into blocks and publish them. Raises OutOfBlocks."""
        table = BlockTable(self.pool)
        tokens = len(prefix.hashes) * self.pool.block_size
        try:
            table.open([], tokens)
            table.extend(tokens)
            self.decoder.write_blocks(table.blocks, prefix.blocks)
            for block, block_hash in zip(table.blocks, prefix.hashes, strict=True):
                self.pool.publish(block, block_hash)
            for key, tail in prefix.tails:
                self.features.put_tail(key, ImageFeatures(tail))
        finally:
            table.release()

    def _store_prefix(self, sequence: Sequence) -> None:
        """Queue the prefix with the sequence's images for the store, unless it is too large or already queued."""
        if not self._store or not sequence.request.images or len(self._storing) >= MAX_STORING:
            return
        spans = [image.span for image in sequence.request.images]
        count = spans[-1].end // self.pool.block_size
        hashes = tuple(sequence.prompt_hashes()[:count])
        if not hashes or not self._store.fits(count * self.decoder.block_bytes) or hashes[-1] in self._storing:
            return
        tails = []
        for span in spans:
            beyond = span.end - count * self.pool.block_size
            if beyond > 0:
                tail = self.features.get(span.key, span.tokens, max(0, span.tokens - beyond))
                if tail is None:  # too large to cache; without it the image would be encoded again
                    return
                tails.append((span.key, tail.values))
        keys = tuple(span.key for span in spans)
        if not self._store.contains(hashes[-1], keys):
            content = self.decoder.read_blocks(sequence.table.blocks[:count])
            self._storing.add(hashes[-1])
            self._store_queue.put(StoredPrefix(hashes, content, keys, tuple(tails)))

    def _write_prefixes(self) -> None:
        while self._store and (prefix := self._store_queue.get()) is not None:
            with suppress(OSError, MemoryError, ValueError):  # an unstored prefix is computed again
                self._store.put(prefix)
            self._storing.discard(prefix.hashes[-1])
