"""What the engine needs of an inference backend: protocols, and the values that pass between the two.

Imports no inference library. A new backend implements ``Decoder`` and ``vision.vision_encoder.VisionEncoder`` and is
registered in ``vlrun.backends``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vlrun.types.arrays import Bytes, FloatArray, IntArray
from vlrun.vision.features import ImageFeatures
from vlrun.vision.vision_encoder import VisionEncoder


@dataclass(frozen=True)
class PlacedFeatures:
    """Image features that stand at tokens ``start .. start + features.tokens`` of a step."""

    start: int
    features: ImageFeatures


@dataclass(frozen=True)
class SequenceStep:
    """The next T tokens of one sequence, to be run in one forward pass.

    Attributes:
        ids: Token ids ``[T]``.
        positions: M-RoPE positions ``[3, T]``.
        past: Tokens that are in the KV cache already.
        blocks: Block table, with blocks for ``past + T`` tokens.
        images: Image features among the T tokens.
        rows: Number of last tokens whose logits are wanted.
        record_queries: Whether the queries of these tokens are wanted too (``AttentionRecorder``).
    """

    ids: IntArray
    positions: IntArray
    past: int
    blocks: Sequence[int]
    images: tuple[PlacedFeatures, ...] = ()
    rows: int = 1
    record_queries: bool = False


@dataclass(frozen=True)
class StepOutput:
    """What a step gives: ``logits [rows, vocab_rows]`` and, if recorded, ``queries [rows, L, heads, head_dim]``."""

    logits: FloatArray
    queries: FloatArray | None = None


@dataclass(frozen=True)
class AttentionTrace:
    """What is needed to compute the attention of an answer's A tokens on its prompt of T tokens in L layers.

    Attributes:
        queries: ``[A, L, heads, head_dim]`` of the positions that each token was sampled from.
        keys: ``[L, T, kv_heads, head_dim]`` of the prompt.
    """

    queries: npt.NDArray[np.float16]
    keys: FloatArray


class AttentionRecorder(Protocol):
    """Optional capability of a decoder: it records queries and reads keys back, for heat maps."""

    def check(self) -> None:
        """Raise OptionError if the device or the layout of the KV cache does not allow it."""

    def read_keys(self, blocks: Sequence[int], tokens: int) -> FloatArray:
        """Return the keys of the first ``tokens`` tokens in ``blocks``, ``[L, tokens, kv_heads, head_dim]``."""


class Decoder(Protocol):
    """A language decoder with a paged KV cache of ``blocks`` blocks, each of ``block_size`` tokens.

    ``name`` stands for the device and its layout of the cache: blocks written under one name can be read under the same
    only. ``recorder`` is None if it cannot record attention.
    """

    name: str
    blocks: int
    block_size: int
    block_bytes: int

    @property
    def recorder(self) -> AttentionRecorder | None:
        """Records attention for heat maps, if the backend can."""

    def forward(self, steps: Sequence[SequenceStep], stopped: Callable[[], bool]) -> list[StepOutput]:
        """Run several sequences in one pass and write their keys and values. Raises InferenceCancelled when
        ``stopped``.
        """

    def read_blocks(self, blocks: Sequence[int]) -> Bytes:
        """Return a copy of the content of blocks in all layers, ``[len(blocks), block_bytes]``."""

    def write_blocks(self, blocks: Sequence[int], content: Bytes) -> None:
        """Write what ``read_blocks`` returned, into any blocks."""


class Backend(Protocol):
    """A model folder on one device of an inference library."""

    @property
    def device(self) -> str:
        """Name of the device."""

    @property
    def settings(self) -> str:
        """Everything besides the model that results depend on; part of the root of all block hashes."""

    def open_decoder(self, memory: int) -> Decoder:
        """Load the decoder with a KV cache of at most ``memory`` bytes. Raises VlrunError."""

    def open_vision_encoder(self) -> VisionEncoder:
        """Load the vision encoder. Raises VlrunError."""
