"""The generation loop: prefill in chunks, then decode token by token, over blocks of the KV cache.

Knows ids, positions and logits; knows neither text nor pictures, nor which backend the decoder drives.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vlrun.cache.blocks import BlockPool, BlockTable
from vlrun.engine.sampler import FloatRow, FloatRows, Sampler, Sampling
from vlrun.model.decoder import Decoder, SequenceStep, VisualRows
from vlrun.model.positions import IntArray

PREFILL_CHUNK = 512
"""Tokens of a prompt in one decoder call: long enough to be bound by computation, short enough to stay responsive."""


@dataclass(frozen=True)
class Request:
    """One prompt: ``ids [T]``, M-RoPE ``positions [3, T]``, ``visuals`` with ``start`` counted in the prompt.

    Generation ends after ``max_tokens`` or after a token of ``eos``.
    """

    ids: IntArray
    positions: IntArray
    visuals: tuple[VisualRows, ...]
    sampling: Sampling
    max_tokens: int
    eos: frozenset[int]


class Engine:
    """Generates tokens with one decoder. Answers may be read in turn: each has its own blocks.

    ``prefill_chunk`` bounds the tokens of a prompt in one call.
    """

    def __init__(self, decoder: Decoder, vocab_size: int, prefill_chunk: int = PREFILL_CHUNK) -> None:
        self._decoder = decoder
        self._vocab_size = vocab_size
        self._prefill_chunk = prefill_chunk
        self.pool = BlockPool(decoder.blocks, decoder.block_size)

    def generate(self, request: Request) -> Generator[int, None, None]:
        """Tokens of the answer, the ending one included. Closing the iterator frees the blocks at once."""
        sampler = Sampler(request.sampling, request.ids.tolist(), self._vocab_size)
        position = int(request.positions.max()) + 1
        with BlockTable(self.pool) as table:
            logits = self._prefill(request, table)
            for step in range(request.max_tokens):
                token = sampler.choose(logits)
                yield token
                if token in request.eos or step + 1 == request.max_tokens:
                    return
                logits = self._decode(token, position + step, table)

    def score(self, request: Request, answer: Sequence[int]) -> FloatRows:
        """Logits before each token of a given answer, ``[len(answer), vocab_rows]``, by the path of ``generate``."""
        position = int(request.positions.max()) + 1
        with BlockTable(self.pool) as table:
            rows = [self._prefill(request, table)]
            for step, token in enumerate(answer[:-1]):
                rows.append(self._decode(token, position + step, table))
        return np.stack(rows)

    def _prefill(self, request: Request, table: BlockTable) -> FloatRow:
        """Run the whole prompt; logits after its last token."""
        table.reserve(len(request.ids))
        for start in range(0, len(request.ids), self._prefill_chunk):
            end = min(start + self._prefill_chunk, len(request.ids))
            visuals = tuple(_overlap(request.visuals, start, end))
            logits = self._forward(request.ids[start:end], request.positions[:, start:end], table, visuals)
        return logits

    def _decode(self, token: int, position: int, table: BlockTable) -> FloatRow:
        """Run one token; logits after it."""
        table.reserve(1)
        return self._forward(np.array([token]), np.full((3, 1), position), table, ())

    def _forward(
        self, ids: IntArray, positions: IntArray, table: BlockTable, visuals: tuple[VisualRows, ...]
    ) -> FloatRow:
        step = SequenceStep(ids, positions, table.length, table.blocks, visuals)
        logits: FloatRow = self._decoder.forward([step])[0]
        table.advance(len(ids))
        return logits


def _overlap(visuals: tuple[VisualRows, ...], start: int, end: int) -> Iterator[VisualRows]:
    """The visual rows between tokens ``start`` and ``end`` of the prompt, counted from ``start``."""
    for rows in visuals:
        low, high = max(start, rows.start), min(end, rows.start + rows.features.shape[1])
        if low < high:
            yield VisualRows(low - start, rows.features[:, low - rows.start : high - rows.start])
