"""Blocks of the KV cache: which are free, which belong to a sequence. Plain Python, apart from the tensors.

A block holds the keys and values of ``block_size`` tokens in every layer. Knows counts and lengths; does not know
devices, ids or what a token means.
"""

from __future__ import annotations

import heapq

from vlrun.errors import ContextLengthExceeded


class BlockPool:
    """A fixed number of blocks. The lowest free one is given out first, so that memory is touched only as needed."""

    def __init__(self, blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self._free = list(range(blocks))  # a heap

    @property
    def free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """``count`` blocks, or ContextLengthExceeded and none."""
        if count > len(self._free):
            raise ContextLengthExceeded(
                f"the KV cache has room for {len(self._free) * self.block_size} more tokens, "
                f"not for {count * self.block_size}"
            )
        return [heapq.heappop(self._free) for _ in range(count)]

    def give_back(self, blocks: list[int]) -> None:
        """Return blocks to the pool."""
        for block in blocks:
            heapq.heappush(self._free, block)


class BlockTable:
    """The blocks of one sequence, in order, and how many tokens they hold. A context manager: leaving it frees them."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self.blocks: list[int] = []
        self.length = 0

    def reserve(self, tokens: int) -> None:
        """Make room for ``tokens`` more behind those already held. Raises ContextLengthExceeded."""
        needed = -(-(self.length + tokens) // self._pool.block_size) - len(self.blocks)
        if needed > 0:
            self.blocks += self._pool.take(needed)

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` as written."""
        self.length += tokens

    def release(self) -> None:
        """Give all blocks back; the sequence is empty again."""
        self._pool.give_back(self.blocks)
        self.blocks = []
        self.length = 0

    def __enter__(self) -> BlockTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
