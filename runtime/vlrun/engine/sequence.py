"""One answer while it is made: its text so far, its blocks, what it runs next and what it makes of the logits.

Knows ids, positions and block tables; does not know the other sequences, nor when it is its turn.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence as Items

import numpy as np
import numpy.typing as npt

from vlrun.engine.backend import SequenceStep, VisualRows
from vlrun.engine.prompt_lookup import PromptLookup, verified
from vlrun.engine.repetition import repeats
from vlrun.engine.request import PendingImage, Request, TokenStream
from vlrun.kv_cache.block_hash import block_hashes
from vlrun.kv_cache.block_pool import BlockPool, BlockTable
from vlrun.types.answer import FinishReason, Progress
from vlrun.types.arrays import FloatArray


class Sequence:
    """A request on its way, from the queue to the last token."""

    def __init__(self, request: Request, stream: TokenStream, pool: BlockPool, root: bytes) -> None:
        self.request = request
        self.stream = stream
        self.table = BlockTable(pool)
        self.text: list[int] = request.ids.tolist()
        self.prompt_length = len(self.text)
        self.passes = 0
        self.kept = False
        self.missing: set[int] = set()
        """Images whose features are still to come."""
        self._pool = pool
        self._root = root
        self._names: list[bytes] = []
        self._named = 0
        self._features: dict[int, FloatArray] = {}
        self._following = int(request.positions.max()) + 1
        self._lookup = PromptLookup(self.text) if request.lookup else None
        self._guessed: list[int] = []
        self._forced = False
        self._queries: FloatArray | None = None

    @property
    def most_tokens(self) -> int:
        """Tokens of prompt and answer together, at most."""
        return self.prompt_length + self.request.max_tokens

    @property
    def prefilling(self) -> bool:
        """Whether the prompt is not in the cache yet."""
        return self.table.length < self.prompt_length

    @property
    def ready(self) -> bool:
        """Whether it can run: all features that it needs are there."""
        return not self.missing

    def prompt_names(self) -> list[bytes]:
        """Names of the prompt's full blocks, without the last token's: that one must run to give logits."""
        return self._names_of(self.prompt_length - 1)

    def open(self) -> None:
        """Take up what of the prompt is cached, and set room aside for the rest. Raises NoRoom."""
        found = self._pool.find(self.prompt_names())
        self.table.open(found, self.most_tokens)
        self._named = len(found)
        self.stream.figures.begun = time.perf_counter()
        self.stream.figures.cached = self.table.length
        ends = (image.span.start + image.span.tokens for image in self.request.images)
        self.missing = {index for index, end in enumerate(ends) if end > self.table.length}

    def close(self) -> None:
        """Give back all that it holds."""
        self.table.release()
        self._features.clear()
        self._queries = None

    def wanted(self, index: int) -> tuple[PendingImage, int]:
        """An image, and the first of its tokens whose features are needed."""
        image = self.request.images[index]
        return image, max(0, self.table.length - image.span.start)

    def give(self, index: int, features: FloatArray) -> None:
        """Hand over the features of the image's last tokens, as many as are needed or more."""
        self._features[index] = features
        self.missing.discard(index)
        if not self.missing:
            self.stream.figures.seen = time.perf_counter()

    def tell_of_vision(self) -> None:
        """Say how many of the visual tokens that are needed are there."""
        if images := self.request.images:
            missing = sum(images[index].span.tokens for index in self.missing)
            total = sum(image.span.tokens for image in images)
            self.stream.put(Progress("vision", total - missing, total))

    def prefill_step(self, most: int) -> SequenceStep:
        """The next tokens of the prompt, about ``most``: a chunk ends where a block ends, which is written whole."""
        start, size = self.table.length, self._pool.block_size
        end = max(start + most - (start + most) % size, start - start % size + size)
        end = min(end, self.prompt_length)
        return self._step(start, end, self.request.positions[:, start:end], tuple(self._visuals(start, end)))

    def decode_step(self, guesses: int) -> SequenceStep:
        """The last token and at most ``guesses`` that may follow it."""
        left = self.most_tokens - len(self.text)
        self._guessed = self._guesses(min(guesses, left - 1))
        start = self.table.length
        first = self._following + start - self.prompt_length
        positions = np.tile(np.arange(first, first + 1 + len(self._guessed)), (3, 1))
        return self._step(start, start + 1 + len(self._guessed), positions, ())

    def _guesses(self, most: int) -> list[int]:
        """At most ``most`` tokens that may come next: those that must, or those that came next before."""
        self._forced = False
        if not self._lookup or most < 1:
            return []
        forced = list(self.request.chooser.forced()[:most])
        self._forced = bool(forced)
        return forced or self._lookup.guess(most)

    def take(self, step: SequenceStep, logits: FloatArray) -> tuple[list[int], FinishReason | None]:
        """Go on with the ``logits [step.rows, vocab]`` of a step that ran: new tokens, and whether that was the end."""
        self.passes += 1
        if step.past + len(step.ids) < self.prompt_length:
            self._advance(len(step.ids))
            return [], None
        chosen: list[int] = []
        reason: FinishReason | None = None
        for row, guess in itertools.zip_longest(logits, self._guessed):
            token = self.request.chooser.choose(row)
            chosen.append(token)
            self.text.append(token)
            if (reason := self._end(token)) or token != guess:
                break
        if self._lookup and not self._forced:
            self._lookup.learn(len(self._guessed), verified(self._guessed, chosen))
        self._advance(len(step.ids) - len(self._guessed) + len(chosen) - 1)  # all chosen but the last were guessed
        self._guessed = []
        return chosen, reason

    def looked(self, count: int) -> list[npt.NDArray[np.float16] | None]:
        """Queries of the ``count`` tokens just taken, each ``[L, heads, head_dim]`` if the request is watched: those of
        the last step's first rows, for guesses are verified from the front.
        """
        if self._queries is None:
            return [None] * count
        return list(self._queries[:count].astype(np.float16))

    def _watch(self, queries: FloatArray) -> None:
        """Keep the queries of a step, ``[rows, L, heads, head_dim]``, until the next one."""
        self._queries = queries

    def _end(self, token: int) -> FinishReason | None:
        answer = len(self.text) - self.prompt_length
        if token in self.request.eos:
            return "stop"
        if answer == self.request.max_tokens:
            return "length"
        if self.request.guard and repeats(self.text[self.prompt_length :]):
            return "repetition"
        return None

    def _step(self, start: int, end: int, positions: np.ndarray, visuals: tuple[VisualRows, ...]) -> SequenceStep:
        ids = np.array([*self.text[start:end], *self._guessed], np.int64)[: end - start]
        self.table.reserve(len(ids))
        rows, watch = 1 + len(self._guessed), self._watch if self.request.watch else None
        return SequenceStep(ids, positions, start, self.table.blocks, visuals, rows, watch)

    def _visuals(self, start: int, end: int) -> Items[VisualRows]:
        """The visual rows between tokens ``start`` and ``end`` of the prompt, counted from ``start``."""
        rows = []
        for index, image in enumerate(self.request.images):
            first = image.span.start
            low, high = max(start, first), min(end, first + image.span.tokens)
            if low < high:
                features = self._features[index]
                known_from = first + image.span.tokens - features.shape[1]
                rows.append(VisualRows(low - start, features[:, low - known_from : high - known_from]))
        return rows

    def _advance(self, tokens: int) -> None:
        """Count tokens as written, and let others find the blocks that are now full."""
        self.table.advance(tokens)
        names = self._names_of(self.table.length)
        for index in range(self._named, self.table.length // self._pool.block_size):
            self._pool.name(self.table.blocks[index], names[index])
            self._named = index + 1

    def _names_of(self, length: int) -> list[bytes]:
        size = self._pool.block_size
        if length // size > len(self._names):
            parent = self._names[-1] if self._names else self._root
            spans = [image.span for image in self.request.images]
            text = self.text[: length - length % size]
            self._names += block_hashes(parent, text, spans, size, len(self._names))
        return self._names[: length // size]
