"""A decoder without a device: its next token depends on every id, position and visual row in its blocks."""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vlrun.engine.backend import AttentionRecorder, SequenceStep, StepOutput
from vlrun.errors import InferenceCancelled
from vlrun.types.arrays import FloatArray

CLEAR = 997
"""A modulus: float16 holds smaller integers exactly."""
VOCABULARY = 50
BLOCK_BYTES = 2048
Cell: TypeAlias = tuple[int, tuple[int, ...], bytes]


class FakeDecoder:
    """Blocks are dictionaries of cells. Logits prefer earlier continuations, so that some guesses are accepted."""

    def __init__(self, blocks: int, block_size: int = 4) -> None:
        self.blocks = blocks
        self.block_size = block_size
        self.block_bytes = BLOCK_BYTES
        self.name = "fake"
        self.recorder: AttentionRecorder | None = self
        self.calls: list[list[SequenceStep]] = []
        self.slow = 0.0
        self.error: Exception | None = None
        self._cells: dict[tuple[int, int], Cell] = {}

    def forward(self, steps: Sequence[SequenceStep], stopped: Callable[[], bool]) -> list[StepOutput]:
        """Write all cells, then read them back through the block tables."""
        self.calls.append(list(steps))
        until = time.monotonic() + self.slow
        while time.monotonic() < until:
            time.sleep(0.001)
            if stopped():
                for step in steps:
                    self._write(replace(step, ids=step.ids + 1))  # a cancelled step may leave any content
                raise InferenceCancelled
        if self.error:
            raise self.error
        for step in steps:
            self._write(step)
        return [self._output(step) for step in steps]

    def _output(self, step: SequenceStep) -> StepOutput:
        texts = self._texts(step)
        queries = np.stack([query(text) for text in texts]) if step.record_queries else None
        return StepOutput(np.stack([scores(text) for text in texts]), queries)

    def check(self) -> None:
        """Accept: everything can be recorded."""

    def read_keys(self, blocks: Sequence[int], tokens: int) -> FloatArray:
        """Return the keys of one layer and one head."""
        where = (divmod(place, self.block_size) for place in range(tokens))
        return np.stack([key(self._cells[blocks[block], offset]) for block, offset in where])[None]

    def read_blocks(self, blocks: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Return the cells of each block, pickled and padded to one length."""
        rows = []
        for block in blocks:
            pickled = pickle.dumps([self._cells.get((block, offset)) for offset in range(self.block_size)])
            rows.append(np.frombuffer(pickled.ljust(BLOCK_BYTES, b"."), np.uint8))
        return np.stack(rows)

    def write_blocks(self, blocks: Sequence[int], content: npt.NDArray[np.uint8]) -> None:
        """Restore the cells from ``read_blocks``."""
        for block, row in zip(blocks, content, strict=True):
            for offset, cell in enumerate(pickle.loads(row.tobytes())):
                self._cells[block, offset] = cell

    def _write(self, step: SequenceStep) -> None:
        rows = {}
        for image in step.images:
            for place in range(image.features.tokens):
                rows[image.start + place] = image.features.values[:, place].tobytes()
        for place, token in enumerate(step.ids):
            block, offset = divmod(step.past + place, self.block_size)
            cell = (int(token), tuple(step.positions[:, place].tolist()), rows.get(place, b""))
            self._cells[step.blocks[block], offset] = cell

    def _texts(self, step: SequenceStep) -> list[list[Cell]]:
        """Return the cells that each row of logits depends on."""
        end = step.past + len(step.ids)
        where = (divmod(place, self.block_size) for place in range(end))
        text = [self._cells[step.blocks[block], offset] for block, offset in where]
        return [text[:length] for length in range(end - step.rows + 1, end + 1)]


def query(text: Sequence[Cell]) -> FloatArray:
    """Return the query after a text, ``[1, 1, 2]``."""
    return np.array([[[len(text), _digest(text) % CLEAR]]], np.float32)


def key(cell: Cell) -> FloatArray:
    """Return the key of a cell, ``[1, 2]``."""
    return np.array([[cell[0], _digest([cell]) % CLEAR]], np.float32)


def scores(text: Sequence[Cell]) -> FloatArray:
    """Return the logits after a text."""
    digest = _digest(text)
    logits = np.zeros(VOCABULARY, np.float32)
    tokens = [token for token, _, _ in text]
    pairs = [tokens[i + 2] for i in range(len(tokens) - 2) if tokens[i : i + 2] == tokens[-2:]]
    logits[digest % VOCABULARY] = 1
    if pairs and digest % 5:
        logits[pairs[-1]] = 2
    return logits


def _digest(text: Sequence[Cell]) -> int:
    return int.from_bytes(hashlib.sha256(repr(text).encode()).digest()[:8])
