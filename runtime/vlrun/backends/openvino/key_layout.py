"""How the CPU plugin lays out keys in a block of the KV cache, and how to read them as floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlrun.types.arrays import FloatArray

SCALE_BYTES = 8
"""Of a scale and a zero point, each a float32, in front of the 8-bit numbers that they belong to."""


@dataclass(frozen=True)
class KeyLayout:
    """How a block holds the keys of one layer: ``[kv_heads, *stored]`` of type ``kind`` (OpenVINO's name of it).

    Plain floats are stored as ``[tokens, head_dim]``. 8-bit keys with a scale for each token are rows of scale, zero
    point and ``head_dim`` numbers; with a scale for each channel of a block, the scales and the zero points of all its
    channels come first, then a row of numbers for each token. A key is ``(number - zero point) * scale``.
    """

    kind: str
    kv_heads: int
    tokens: int
    head_dim: int
    by_channel: bool = False

    def read(self, cells: npt.NDArray[np.uint8]) -> FloatArray:
        """The keys in blocks, ``[blocks, bytes]`` to ``[blocks * tokens, kv_heads, head_dim]``."""
        if self.kind == "u8":
            keys = self._by_channel(cells) if self.by_channel else self._by_token(cells)
        elif self.kind == "bf16":
            keys = (cells.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            keys = cells.view({"f16": np.float16, "f32": np.float32}[self.kind]).astype(np.float32)
        shaped = keys.reshape(len(cells), self.kv_heads, self.tokens, self.head_dim)
        return shaped.transpose(0, 2, 1, 3).reshape(-1, self.kv_heads, self.head_dim)

    def _by_token(self, cells: npt.NDArray[np.uint8]) -> FloatArray:
        rows = cells.reshape(-1, SCALE_BYTES + self.head_dim)
        scales = np.ascontiguousarray(rows[:, :SCALE_BYTES]).view(np.float32)
        return (rows[:, SCALE_BYTES:].astype(np.float32) - scales[:, 1:]) * scales[:, :1]

    def _by_channel(self, cells: npt.NDArray[np.uint8]) -> FloatArray:
        rows = cells.reshape(-1, SCALE_BYTES + self.tokens, self.head_dim)
        scales = np.ascontiguousarray(rows[:, :SCALE_BYTES]).view(np.float32).reshape(-1, 2, 1, self.head_dim)
        return (rows[:, SCALE_BYTES:].astype(np.float32) - scales[:, 1]) * scales[:, 0]


def key_layout(kind: str, stored: Sequence[int], tokens: int, head_dim: int) -> KeyLayout | None:
    """The layout of a key port ``[blocks, *stored]`` with ``tokens`` in a block; None if it is not a known one."""
    kv_heads, *rest = stored
    if kind in {"f32", "f16", "bf16"} and rest == [tokens, head_dim]:
        return KeyLayout(kind, kv_heads, tokens, head_dim)
    if kind == "u8" and rest == [tokens, head_dim + SCALE_BYTES]:
        return KeyLayout(kind, kv_heads, tokens, head_dim)
    if kind == "u8" and rest == [tokens + SCALE_BYTES, head_dim]:
        return KeyLayout(kind, kv_heads, tokens, head_dim, by_channel=True)
    return None


def watched_layers(layers: int) -> tuple[int, ...]:
    """The layers whose attention is watched: an eighth of them, from the middle on.

    The first layers gather what stands together and the last ones choose words; in between, answers fetch from the
    image what they need. Of 28 layers these are 14, 15 and 16; of the embedded model's 5 it is 2, the layer that was
    trained to look at what it speaks of.
    """
    return tuple(range(layers // 2, layers // 2 + max(1, layers // 8)))
