"""A running request: its tokens and blocks, its next step, and the processing of a step's output."""

from __future__ import annotations

import itertools
import operator
import time
from collections.abc import Sequence as SequenceOf

import numpy as np

from vlrun.engine.backend import PlacedFeatures, SequenceStep, StepOutput
from vlrun.engine.prompt_lookup import PromptLookup
from vlrun.engine.repetition import repeats
from vlrun.engine.request import Request, TokenStream
from vlrun.kv_cache.block_hash import block_hashes
from vlrun.kv_cache.block_pool import BlockPool, BlockTable
from vlrun.types.answer import FinishReason, Progress
from vlrun.types.arrays import IntArray
from vlrun.vision.encoder_queue import FEATURE_TOKENS
from vlrun.vision.features import ImageFeatures


class Sequence:
    """One request, from the queue to its last token."""

    def __init__(self, request: Request, stream: TokenStream, pool: BlockPool, root: bytes) -> None:
        self.request = request
        self.stream = stream
        self.table = BlockTable(pool)
        self.tokens: list[int] = request.ids.tolist()
        self.prompt_length = len(self.tokens)
        self.max_length = self.prompt_length + request.max_tokens
        self.forward_passes = 0
        self.stored = False
        """Whether the prefix was passed to the prefix store."""
        self.missing_images: set[int] = set()
        """Indices of the images whose features are still missing."""
        self._awaited: set[int] = set()
        """Those of them that the engine was asked for."""
        self._awaited_since = 0.0
        self._pool = pool
        self._root = root
        self._spans = [image.span for image in request.images]
        self._hashes: list[bytes] = []
        self._published = 0
        self._features: dict[int, ImageFeatures] = {}
        self._next_position = int(request.positions.max()) + 1
        self._lookup = PromptLookup(self.tokens) if request.prompt_lookup else None
        self._guesses: list[int] = []
        self._guesses_forced = False

    @property
    def prefilling(self) -> bool:
        """Whether part of the prompt is not in the KV cache yet."""
        return self.table.length < self.prompt_length

    def prompt_hashes(self) -> list[bytes]:
        """Return the hashes of the prompt's full blocks, except for the last token, which must run to give logits."""
        return self._hashes_of(self.prompt_length - 1)

    def open(self) -> None:
        """Acquire the prompt's cached blocks and reserve the rest. Raises OutOfBlocks."""
        cached = self._pool.find(self.prompt_hashes())
        self.table.open(cached, self.max_length)
        self._published = len(cached)
        self.stream.metrics.admitted = time.perf_counter()
        self.stream.metrics.cached_tokens = self.table.length
        self.missing_images = {index for index, span in enumerate(self._spans) if span.end > self.table.length}

    def wanted_images(self) -> list[int]:
        """Return the images whose features are needed next, which are then awaited; empty if there is other work first.

        Of a long video, only as many pairs of frames as ``FEATURE_TOKENS`` allow are encoded before they are prefilled.
        """
        if self._awaited or (self._features and self.table.length < self._prefillable):
            return []
        tokens = 0
        for index in sorted(self.missing_images):
            tokens += self._spans[index].tokens
            if self._awaited and tokens > FEATURE_TOKENS:
                break
            self._awaited.add(index)
        self._awaited_since = time.perf_counter()
        return sorted(self._awaited)

    @property
    def can_prefill(self) -> bool:
        """Whether part of the prompt is not in the KV cache yet, and has all features that it needs."""
        return not self._awaited and self.table.length < self._prefillable

    @property
    def _prefillable(self) -> int:
        """The end of the prompt, or of the last full block before the first image whose features are missing."""
        if not self.missing_images:
            return self.prompt_length
        start = self._spans[min(self.missing_images)].start
        return start - start % self._pool.block_size

    def close(self) -> None:
        """Release all blocks and features."""
        self.table.release()
        self._features.clear()

    def add_features(self, index: int, features: ImageFeatures) -> None:
        """Add the features of an image's last tokens, at least of those that are not cached."""
        self._features[index] = features
        self.missing_images.discard(index)
        self._awaited.discard(index)
        if not self._awaited:
            metrics = self.stream.metrics
            metrics.encoded = (metrics.encoded or metrics.admitted or 0.0) + time.perf_counter() - self._awaited_since

    def report_progress(self) -> None:
        """Report the encoded visual tokens to the stream and, once there are all, the prompt tokens to prefill."""
        if self._spans:
            missing = sum(self._spans[index].tokens for index in self.missing_images)
            total = sum(span.tokens for span in self._spans)
            self.stream.put(Progress("vision", total - missing, total))
        if not self._awaited:
            self.stream.put(Progress("prefill", self.table.length, self.prompt_length))

    def prefill_step(self, max_tokens: int) -> SequenceStep:
        """Return the next chunk of the prompt: about ``max_tokens``, up to a block boundary."""
        start, size = self.table.length, self._pool.block_size
        end = max(start + max_tokens - (start + max_tokens) % size, start - start % size + size)
        end = min(end, self._prefillable)
        return self._step(start, end, self.request.positions[:, start:end], self._placed_features(start, end))

    def decode_step(self, max_guesses: int) -> SequenceStep:
        """Return the last token and up to ``max_guesses`` guessed tokens."""
        left = self.max_length - len(self.tokens)
        self._guesses = self._guess(min(max_guesses, left - 1))
        start = self.table.length
        first = self._next_position + start - self.prompt_length
        positions = np.tile(np.arange(first, first + 1 + len(self._guesses)), (3, 1))
        return self._step(start, start + 1 + len(self._guesses), positions, ())

    def process(self, step: SequenceStep, output: StepOutput) -> tuple[list[int], FinishReason | None]:
        """Advance by a completed step. Return the new tokens, and the finish reason if the output ends."""
        self.forward_passes += 1
        if step.past + len(step.ids) < self.prompt_length:
            self._advance(len(step.ids))
            used = [index for index in self._features if self._spans[index].end <= self.table.length]
            for index in used:
                del self._features[index]
            return [], None
        self._features.clear()
        sampled: list[int] = []
        reason: FinishReason | None = None
        for logits, guess in itertools.zip_longest(output.logits, self._guesses):
            token = self.request.sampler.sample(logits)
            sampled.append(token)
            self.tokens.append(token)
            if (reason := self._finish_reason(token)) or token != guess:
                break
        if self._lookup and not self._guesses_forced:
            self._lookup.update(len(self._guesses), sum(map(operator.eq, self._guesses, sampled)))
        self._advance(len(step.ids) - len(self._guesses) + len(sampled) - 1)  # all sampled but the last were guessed
        self._guesses = []
        return sampled, reason

    def _guess(self, max_guesses: int) -> list[int]:
        """Return the tokens that the grammar forces, or else the guesses of prompt lookup."""
        self._guesses_forced = False
        if not self._lookup or max_guesses < 1:
            return []
        forced = list(self.request.sampler.forced_tokens()[:max_guesses])
        self._guesses_forced = bool(forced)
        return forced or self._lookup.guess(max_guesses)

    def _finish_reason(self, token: int) -> FinishReason | None:
        generated = len(self.tokens) - self.prompt_length
        if token in self.request.eos:
            return "stop"
        if generated == self.request.max_tokens:
            return "length"
        if self.request.repetition_guard and repeats(self.tokens[self.prompt_length :]):
            return "repetition"
        return None

    def _step(self, start: int, end: int, positions: IntArray, images: SequenceOf[PlacedFeatures]) -> SequenceStep:
        ids = np.array([*self.tokens[start:end], *self._guesses], np.int64)[: end - start]
        self.table.extend(len(ids))
        rows, record = 1 + len(self._guesses), self.request.record_attention
        return SequenceStep(ids, positions, start, self.table.blocks, tuple(images), rows, record)

    def _placed_features(self, start: int, end: int) -> list[PlacedFeatures]:
        """Return the image features for prompt tokens ``start .. end``, placed relative to ``start``."""
        placed = []
        for index, span in enumerate(self._spans):
            low, high = max(start, span.start), min(end, span.end)
            if low < high:
                features = self._features[index]
                first = span.end - features.tokens  # features may cover the last tokens only
                placed.append(PlacedFeatures(low - start, features.slice(low - first, high - first)))
        return placed

    def _advance(self, tokens: int) -> None:
        """Count tokens as written, and publish full blocks."""
        self.table.advance(tokens)
        hashes = self._hashes_of(self.table.length)
        for index in range(self._published, self.table.length // self._pool.block_size):
            self._pool.publish(self.table.blocks[index], hashes[index])
            self._published = index + 1

    def _hashes_of(self, length: int) -> list[bytes]:
        size = self._pool.block_size
        if length // size > len(self._hashes):
            parent = self._hashes[-1] if self._hashes else self._root
            full = self.tokens[: length - length % size]
            self._hashes += block_hashes(parent, full, self._spans, size, len(self._hashes))
        return self._hashes[: length // size]
