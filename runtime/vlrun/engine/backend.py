"""What the engine needs of an inference backend: protocols, and the values that pass between the two.

Imports no inference library. A new backend implements these and is registered in ``vlrun.backends``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vlrun.types.arrays import Bytes, FloatArray, IntArray


@dataclass(frozen=True)
class VisualRows:
    """Visual tokens of a step: ``features [1 + deepstack, n, hidden]`` stand at tokens ``start .. start + n``."""

    start: int
    features: FloatArray


@dataclass(frozen=True)
class SequenceStep:
    """The next tokens of one sequence: ``ids [T]``, ``positions [3, T]``, after ``past`` tokens in ``blocks``.

    ``blocks`` must have room for ``past + T`` tokens. ``rows``: of how many of its last tokens the logits are wanted;
    ``watch`` is given the queries of the same tokens in the watched layers, ``[rows, L, heads, head_dim]``.
    """

    ids: IntArray
    positions: IntArray
    past: int
    blocks: Sequence[int]
    visuals: tuple[VisualRows, ...] = ()
    rows: int = 1
    watch: Callable[[FloatArray], None] | None = None


@dataclass(frozen=True)
class AttentionTrace:
    """The attention of an answer's A tokens on its prompt of T tokens in L layers: ``queries [A, L, heads, head_dim]``,
    of the positions that each token came from, and ``keys [L, T, kv_heads, head_dim]``.
    """

    queries: npt.NDArray[np.float16]
    keys: FloatArray


class Backend(Protocol):
    """What the engine needs of a decoder."""

    blocks: int
    block_size: int
    block_bytes: int

    def forward(self, steps: Sequence[SequenceStep], stopped: Callable[[], bool]) -> list[FloatArray]:
        """Run steps together; of each its last ``rows`` rows of logits. Raises Abandoned when ``stopped``."""

    def read_blocks(self, blocks: Sequence[int]) -> Bytes:
        """What blocks hold, ``[len(blocks), block_bytes]``."""

    def write_blocks(self, blocks: Sequence[int], content: Bytes) -> None:
        """Put back what ``read_blocks`` gave, into any blocks."""

    def check_watch(self) -> None:
        """Raises OptionError if it cannot tell what tokens look at."""

    def read_keys(self, blocks: Sequence[int], tokens: int) -> FloatArray:
        """Keys of the first ``tokens`` tokens in ``blocks``, ``[L, tokens, kv_heads, head_dim]``."""
