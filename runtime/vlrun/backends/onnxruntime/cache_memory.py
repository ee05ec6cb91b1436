"""The memory of a KV cache that ONNX Runtime works on.

GroupQueryAttention needs the keys of a sequence in one piece, ``[kv_heads, tokens, head_dim]`` for each layer. So there
are slots, each with room for the longest sequence. They are address space: only what is written takes memory, and what
is freed is given back to the system. Blocks that are in no slot lie in pages, one for each block.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from vlrun.types.arrays import FloatArray

FLOAT_BYTES = 4


@dataclass(frozen=True)
class CacheShape:
    """Dimensions of a cache: ``blocks`` blocks of ``block_size`` tokens, and slots of ``capacity`` tokens."""

    layers: int
    kv_heads: int
    head_dim: int
    block_size: int
    blocks: int
    slots: int
    capacity: int

    @property
    def block_bytes(self) -> int:
        """Bytes of a block: keys and values of all layers."""
        return self.layers * 2 * self.kv_heads * self.block_size * self.head_dim * FLOAT_BYTES


class CacheMemory:
    """Slots and pages.

    Attributes:
        cells: ``[layers, 2, slots, kv_heads, capacity, head_dim]``; 0: keys, 1: values.
        pages: ``[blocks, layers, 2, kv_heads, block_size, head_dim]``.

    Raises:
        MemoryError: There is not enough address space.
    """

    def __init__(self, shape: CacheShape) -> None:
        self._shape = shape
        rows = [shape.layers, 2, shape.slots, shape.kv_heads, shape.capacity, shape.head_dim]
        self._cells_memory, self.cells = _reserve(rows)
        block = [shape.layers, 2, shape.kv_heads, shape.block_size, shape.head_dim]
        self._pages_memory, self.pages = _reserve([shape.blocks, *block])

    def in_slot(self, slot: int, index: int) -> FloatArray:
        """Return a view of the ``index``-th block of a slot, ``[layers, 2, kv_heads, block_size, head_dim]``."""
        start = index * self._shape.block_size
        return self.cells[:, :, slot, :, start : start + self._shape.block_size]

    def free_page(self, block: int) -> None:
        """Give the memory of a page back; its content is lost."""
        _release(self._pages_memory, block * self._shape.block_bytes, self._shape.block_bytes)

    def free_in_slot(self, slot: int, first: int, count: int) -> None:
        """Give the memory of ``count`` blocks of a slot back; their content is lost."""
        shape = self._shape
        head = shape.capacity * shape.head_dim * FLOAT_BYTES
        block = shape.block_size * shape.head_dim * FLOAT_BYTES
        for part in range(shape.layers * 2):
            for kv_head in range(shape.kv_heads):
                start = ((part * shape.slots + slot) * shape.kv_heads + kv_head) * head
                _release(self._cells_memory, start + first * block, count * block)


def _reserve(shape: Sequence[int]) -> tuple[mmap.mmap, FloatArray]:
    """Reserve zeroed address space, which takes memory as it is written."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        memory = mmap.mmap(-1, math.prod(shape) * FLOAT_BYTES, flags=flags)
    except (OSError, OverflowError, ValueError) as error:
        raise MemoryError(str(error)) from error
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # a huge page would take memory for many tokens at once
        with suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory, np.frombuffer(memory, np.float32).reshape(shape)


def _release(memory: mmap.mmap, start: int, size: int) -> None:
    """Give whole pages of memory within a range back to the system."""
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (start + size) // mmap.PAGESIZE * mmap.PAGESIZE - first
    if length > 0:
        memory.madvise(mmap.MADV_DONTNEED, first, length)
