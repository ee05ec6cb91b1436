"""The engine: one thread that owns the decoder, one that has images encoded, and the streams out of them.

Callers submit requests and read streams; everything else happens in the decoder's thread, one round after the other:
take what arrived, drop whom nobody reads, let the waiting in, run a step, hand out tokens. Knows ids, features and
logits; knows neither text nor images, nor which backend the decoder drives.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from vlrun.engine.backend import Backend, SequenceStep
from vlrun.engine.request import FinishEvent, PendingImage, Request, TokenEvent, TokenStream
from vlrun.engine.scheduler import Scheduler, SchedulerConfig
from vlrun.engine.sequence import Sequence
from vlrun.engine.watchdog import EngineState, Watchdog
from vlrun.errors import ContextLengthExceeded, DeviceError, EngineClosed, InferenceCancelled, VlrunError
from vlrun.kv_cache.block_pool import BlockPool, BlockTable, NoRoom
from vlrun.kv_cache.prefix_store import PrefixStore, StoredPrefix
from vlrun.types.answer import Progress
from vlrun.types.arrays import FloatArray
from vlrun.vision.feature_cache import FeatureCache

MIB = 2**20
FEATURES_BUDGET, TAILS_BUDGET = 192 * MIB, 64 * MIB
"""Features of a 1024 x 768 image in the 2B model take 25 MB, those of its last 31 tokens 1 MB."""


MOST_KEEPING = 2
"""Prefixes on their way to the disk at once; each takes its size in memory. What comes meanwhile is not stored."""


class Engine:
    """Answers requests with one decoder, several at a time. ``root`` names the model and how it runs; finished image
    prefixes go to ``store`` and come from there, if there is one.
    """

    def __init__(
        self, decoder: Backend, root: bytes, limits: SchedulerConfig | None = None, store: PrefixStore | None = None
    ) -> None:
        self.pool = BlockPool(decoder.blocks, decoder.block_size)
        self.features = FeatureCache(FEATURES_BUDGET, decoder.block_size - 1, TAILS_BUDGET)
        self._decoder = decoder
        self._root = root
        self._scheduler = Scheduler(self.pool, limits or SchedulerConfig())
        self._store = store
        self._to_keep: queue.SimpleQueue[StoredPrefix | None] = queue.SimpleQueue()
        self._keeping: set[bytes] = set()
        self._reading = threading.Lock()
        self._looks: dict[bytes, list[tuple[Sequence, int]]] = {}
        self._to_see: queue.SimpleQueue[PendingImage | None] = queue.SimpleQueue()
        self._pulse = Watchdog()
        self._inbox: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        work = {"engine": self._run, "vision": self._see} | ({"store": self._keep} if store else {})
        self._threads = [threading.Thread(target=run, name=f"vlrun-{name}", daemon=True) for name, run in work.items()]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> TokenStream:
        """Begin an answer. Raises ContextLengthExceeded if it can never fit, OptionError if it is to be watched and
        cannot be here, EngineClosed after ``close``.
        """
        if request.watch:
            self._decoder.check_watch()
        room, needed = self.pool.blocks * self.pool.block_size, len(request.ids) + request.max_tokens
        if needed > room:
            raise ContextLengthExceeded(f"prompt and answer may take {needed} tokens, but the KV cache holds {room}")
        stream = TokenStream(self._wake)
        stream.figures.submitted = time.perf_counter()
        sequence = Sequence(request, stream, self.pool, self._root)
        stored = self._stored(sequence)  # read here, in the caller's thread: running answers go on meanwhile
        with self._changed:
            if self._closing:
                raise EngineClosed("the model is closed")
            if self._idle():
                self._pulse.beat()
            self._inbox.append(partial(self._arrive, sequence, stored))
            self._changed.notify()
        return stream

    def state(self) -> EngineState:
        """How it is now. May be called in any thread."""
        idle, pool = self._idle(), self.pool
        alive = not self._closing and all(thread.is_alive() for thread in self._threads)
        return EngineState(
            progressing=alive and (idle or self._pulse.progressing()),
            still=0.0 if idle else self._pulse.still,
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting) + len(self._inbox),
            blocks=pool.blocks,
            free_blocks=pool.free,
            named_blocks=pool.named,
            block_bytes=self._decoder.block_bytes,
            feature_bytes=self.features.bytes,
        )

    def _idle(self) -> bool:
        return not (self._inbox or self._scheduler.running or self._scheduler.waiting or self._looks)

    def close(self) -> None:
        """Stop at once: running answers end with EngineClosed. No thread is left afterwards, nothing half stored."""
        self.stop()
        rounds, vision, *store = self._threads
        for thread in (rounds, vision):
            thread.join()
        self._to_keep.put(None)
        for thread in store:
            thread.join()

    def stop(self) -> None:
        """Tell the threads to stop, and wait for none of them: this may be called in any thread, at any moment."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._to_see.put(None)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        """The decoder's thread."""
        try:
            while not self._closing:
                try:
                    self._round()
                except InferenceCancelled:
                    continue  # all its readers have left, or the engine closes
                except Exception as error:  # noqa: BLE001 - its readers must hear of it, the next ones be served
                    self._fail(error if isinstance(error, VlrunError) else DeviceError(f"the device failed: {error}"))
        finally:
            with self._changed:
                self._closing = True
            while self._inbox:
                with suppress(Exception):  # whatever it was about is over
                    self._inbox.popleft()()
            self._fail(EngineClosed("the model was closed before the answer was complete"))

    def _round(self) -> None:
        """One round."""
        self._take_what_arrived()
        for sequence in [*self._scheduler.waiting, *self._scheduler.running]:
            if sequence.stream.closed:
                self._scheduler.drop(sequence)
        for sequence in self._scheduler.admit():
            sequence.tell_of_vision()
            for index in sorted(sequence.missing):
                self._look(sequence, index)
        plan = self._scheduler.plan()
        if not plan:
            self._wait()
            return
        readers = [sequence.stream for sequence, _ in plan]
        logits = self._decoder.forward(
            [step for _, step in plan], lambda: self._closing or all(reader.closed for reader in readers)
        )
        self._pulse.beat()
        for (sequence, step), rows in zip(plan, logits, strict=True):
            self._hand_out(sequence, step, rows)

    def _take_what_arrived(self) -> None:
        while True:
            with self._changed:
                if not self._inbox:
                    return
                message = self._inbox.popleft()
            message()

    def _wait(self) -> None:
        """Sleep until something arrives or a reader leaves."""
        with self._changed:
            everyone = [*self._scheduler.waiting, *self._scheduler.running]
            self._changed.wait_for(
                lambda: self._inbox or self._closing or any(sequence.stream.closed for sequence in everyone)
            )

    def _hand_out(self, sequence: Sequence, step: SequenceStep, logits: FloatArray) -> None:
        stream = sequence.stream
        try:
            tokens, reason = sequence.take(step, logits)
        except VlrunError as error:  # of this answer alone
            self._scheduler.drop(sequence)
            stream.put(error)
            return
        now = time.perf_counter()
        if not tokens:
            stream.put(Progress("prefill", sequence.table.length, sequence.prompt_length))
        if tokens and sequence.request.watch and stream.keys is None:
            stream.keys = self._decoder.read_keys(sequence.table.blocks, sequence.prompt_length)
        for token, queries in zip(tokens, sequence.looked(len(tokens)), strict=True):
            stream.put(TokenEvent(token, now, sequence.passes, queries))
        if reason:
            stream.put(FinishEvent(reason))
        if tokens and not sequence.kept:
            sequence.kept = True
            with suppress(OSError, MemoryError, ValueError, RuntimeError):  # an answer needs no store
                self._remember(sequence)
        if reason:
            self._scheduler.drop(sequence)

    def _stored(self, sequence: Sequence) -> StoredPrefix | None:
        """What the disk has of its prompt beyond the blocks that are known, as far as can be seen from outside. One
        caller at a time: the next one finds most often what this one brings.
        """
        if not self._store or not sequence.request.images or self._closing:
            return None
        names = sequence.prompt_names()
        with self._reading, suppress(OSError, MemoryError, ValueError):  # an answer needs no store
            keys = [image.span.key for image in sequence.request.images]
            prefix = self._store.longest(names, len(self.pool.find(names)), keys)
            if prefix and prefix.blocks.shape[1] == self._decoder.block_bytes:
                return prefix
        return None

    def _arrive(self, sequence: Sequence, stored: StoredPrefix | None) -> None:
        """Queue a new sequence, behind what the disk had of its prompt."""
        self._scheduler.waiting.append(sequence)
        news = stored and len(self.pool.find(stored.names)) < len(stored.names)
        if stored and news and not sequence.stream.closed and not self._closing:
            with suppress(MemoryError, ValueError, RuntimeError):  # an answer needs no store
                self._restore(stored)

    def _restore(self, prefix: StoredPrefix) -> None:
        """Put a stored prefix where it will be found; if there is no room now, it is computed when there is."""
        table = BlockTable(self.pool)
        tokens = len(prefix.names) * self.pool.block_size
        try:
            table.open([], tokens)
            table.reserve(tokens)
            self._decoder.write_blocks(table.blocks, prefix.blocks)
            for block, name in zip(table.blocks, prefix.names, strict=True):
                self.pool.name(block, name)
            for key, tail in prefix.tails:
                self.features.put_tail(key, tail)
        except NoRoom:
            return
        finally:
            table.release()

    def _remember(self, sequence: Sequence) -> None:
        """Have the finished prefix of the sequence's images stored, unless it is too large or already on its way."""
        if not self._store or not sequence.request.images or len(self._keeping) >= MOST_KEEPING:
            return
        spans = [image.span for image in sequence.request.images]
        count = (spans[-1].start + spans[-1].tokens) // self.pool.block_size
        names = tuple(sequence.prompt_names()[:count])
        if not names or not self._store.fits(count * self._decoder.block_bytes) or names[-1] in self._keeping:
            return
        tails = []
        for span in spans:
            behind = span.start + span.tokens - count * self.pool.block_size
            if behind > 0:
                tail = self.features.get(span.key, span.tokens, max(0, span.tokens - behind))
                if tail is None:  # too large to be kept: without it the image would have to be encoded again
                    return
                tails.append((span.key, tail))
        keys = tuple(span.key for span in spans)
        if not self._store.holds(names[-1], keys):
            content = self._decoder.read_blocks(sequence.table.blocks[:count])
            self._keeping.add(names[-1])
            self._to_keep.put(StoredPrefix(names, content, keys, tuple(tails)))

    def _keep(self) -> None:
        """The store's thread."""
        while self._store and (prefix := self._to_keep.get()) is not None:
            with suppress(OSError, MemoryError, ValueError):  # what cannot be stored is computed again
                self._store.put(prefix)
            self._keeping.discard(prefix.names[-1])

    def _look(self, sequence: Sequence, index: int) -> None:
        """Get the features of an image: out of the cache, or from the vision thread, once for all who want them."""
        image, begin = sequence.wanted(index)
        features = self.features.get(image.span.key, image.span.tokens, begin)
        if features is not None:
            sequence.give(index, features)
            return
        waiting = self._looks.setdefault(image.span.key, [])
        waiting.append((sequence, index))
        if len(waiting) == 1:
            self._to_see.put(image)

    def _see(self) -> None:
        """The vision encoder's thread."""
        while (image := self._to_see.get()) is not None:
            key = image.span.key
            try:
                if self._unwanted(key):
                    raise InferenceCancelled
                outcome: FloatArray | Exception = image.encode(partial(self._unwanted, key))
            except Exception as error:  # noqa: BLE001 - goes to those who wait for it
                outcome = error
            with self._changed:
                self._inbox.append(partial(self._seen, key, outcome))
                self._changed.notify()

    def _unwanted(self, key: bytes) -> bool:
        return self._closing or all(sequence.stream.closed for sequence, _ in list(self._looks.get(key, ())))

    def _seen(self, key: bytes, outcome: FloatArray | Exception) -> None:
        self._pulse.beat()
        waiting = self._looks.pop(key)
        if isinstance(outcome, InferenceCancelled):
            for sequence, index in waiting:  # one who came at the last moment
                if not sequence.stream.closed:
                    self._look(sequence, index)
        elif isinstance(outcome, Exception):
            error = outcome if isinstance(outcome, VlrunError) else DeviceError(f"the device failed: {outcome}")
            for sequence, _ in waiting:
                self._scheduler.drop(sequence)
                sequence.stream.put(error)
        else:
            self.features.put(key, outcome)
            for sequence, index in waiting:
                sequence.give(index, outcome)
                sequence.tell_of_vision()

    def _fail(self, error: VlrunError) -> None:
        """End every answer with an error."""
        for sequence in [*self._scheduler.waiting, *self._scheduler.running]:
            self._scheduler.drop(sequence)
            sequence.stream.put(error)
