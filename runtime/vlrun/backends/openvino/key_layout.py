"""The layouts in which the CPU plugin stores keys in a KV cache block, and their conversion to floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlrun.types.arrays import FloatArray

SCALE_BYTES = 8
"""Size of a scale and a zero point, each float32, in front of their 8-bit values."""


@dataclass(frozen=True)
class KeyLayout:
    """The layout ``[kv_heads, *stored]`` of one layer's keys in a block.

    Floats are stored as ``[tokens, head_dim]``. 8-bit keys with a scale per token are rows of scale, zero point and
    ``head_dim`` values. With a scale per channel, a row of scales and a row of zero points precede one row of values
    per token. A key is ``(value - zero point) * scale``.
    """

    element_type: str
    kv_heads: int
    tokens: int
    head_dim: int
    by_channel: bool = False

    def read(self, cells: npt.NDArray[np.uint8]) -> FloatArray:
        """Convert blocks ``[blocks, bytes]`` to keys ``[blocks * tokens, kv_heads, head_dim]``."""
        if self.element_type == "u8":
            keys = self._by_channel(cells) if self.by_channel else self._by_token(cells)
        elif self.element_type == "bf16":
            keys = (cells.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            keys = cells.view({"f16": np.float16, "f32": np.float32}[self.element_type]).astype(np.float32)
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


def key_layout(element_type: str, stored: Sequence[int], tokens: int, head_dim: int) -> KeyLayout | None:
    """Return the layout of a key port ``[blocks, *stored]`` with ``tokens`` per block; None if it is unknown."""
    kv_heads, *rest = stored
    plain, by_token, by_channel = [tokens, head_dim], [tokens, head_dim + SCALE_BYTES], [tokens + SCALE_BYTES, head_dim]
    known = (by_token, by_channel) if element_type == "u8" else (plain,)
    if element_type not in {"f32", "f16", "bf16", "u8"} or rest not in known:
        return None
    return KeyLayout(element_type, kv_heads, tokens, head_dim, rest == by_channel)
