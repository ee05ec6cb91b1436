"""The interface between the engine and an inference backend: protocols, and the values that pass between them.

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
    """Image features for tokens ``start .. start + features.tokens`` of a step."""

    start: int
    features: ImageFeatures


@dataclass(frozen=True)
class SequenceStep:
    """The next T tokens of one sequence in a forward pass.

    Attributes:
        ids: Token ids ``[T]``.
        positions: M-RoPE positions ``[3, T]``.
        past: Tokens already in the KV cache.
        blocks: Block table, with blocks for ``past + T`` tokens.
        images: Image features among the T tokens.
        rows: Number of last tokens whose logits to return.
        record_queries: Whether to return the queries of these tokens too.
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
    """Result of a step: ``logits [rows, vocab_rows]`` and, if recorded, ``queries [rows, L, heads, head_dim]``."""

    logits: FloatArray
    queries: FloatArray | None = None


@dataclass(frozen=True)
class AttentionTrace:
    """Queries and keys that give the attention of A answer tokens to T prompt tokens in L layers.

    Attributes:
        queries: ``[A, L, heads, head_dim]``, from the position that each answer token was sampled at.
        keys: ``[L, T, kv_heads, head_dim]``.
    """

    queries: npt.NDArray[np.float16]
    keys: FloatArray


class AttentionRecorder(Protocol):
    """Optional capability of a decoder: record queries and read keys back, for heat maps."""

    def check(self) -> None:
        """Raise OptionError if the device or the layout of the KV cache does not support it."""

    def read_keys(self, blocks: Sequence[int], tokens: int) -> FloatArray:
        """Return the keys of the first ``tokens`` tokens in ``blocks``, ``[L, tokens, kv_heads, head_dim]``."""


class Decoder(Protocol):
    """A language decoder with a paged KV cache of ``blocks`` blocks, each of ``block_size`` tokens.

    ``name`` identifies the device and its cache layout: blocks can be read only under the name they were written under.
    """

    name: str
    blocks: int
    block_size: int
    block_bytes: int

    @property
    def recorder(self) -> AttentionRecorder | None:
        """Recorder for heat maps; None if the backend has none."""

    def forward(self, steps: Sequence[SequenceStep], stopped: Callable[[], bool]) -> list[StepOutput]:
        """Run several sequences in one pass and write their keys and values.

        Raises InferenceCancelled when ``stopped``.
        """

    def read_blocks(self, blocks: Sequence[int]) -> Bytes:
        """Copy blocks of all layers out of the KV cache, ``[len(blocks), block_bytes]``."""

    def write_blocks(self, blocks: Sequence[int], content: Bytes) -> None:
        """Write the content that ``read_blocks`` returned into these blocks."""


class OpenedDecoder(Decoder, Protocol):
    """A decoder as a backend opens it."""

    def warm_up(self) -> None:
        """Run one token: some plugins repack the weights then. Raises DeviceError."""


class Backend(Protocol):
    """A model folder on one device of an inference library."""

    @property
    def device(self) -> str:
        """Name of the device."""

    @property
    def settings(self) -> str:
        """Everything besides the model that affects results; part of the root block hash."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages about settings that were changed, once both parts are open."""

    @property
    def description(self) -> str:
        """The settings in use, as a phrase for users."""

    def default_cache_bytes(self, total: int) -> int:
        """Return how much of ``total`` bytes of memory the KV cache may take unless the user says otherwise."""

    def open_decoder(self, memory: int) -> OpenedDecoder:
        """Load the decoder with a KV cache of at most ``memory`` bytes. Raises VlrunError."""

    def open_vision_encoder(self) -> VisionEncoder:
        """Load the vision encoder. Raises VlrunError."""
