"""The block pool of the KV cache and the block tables of sequences.

A block holds the keys and values of ``block_size`` tokens in every layer. A full block is published under its hash
(``block_hash``), so that sequences with the same prefix share it. A published block without references stays cached
until the pool needs it; the least recently used one is evicted first.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Sequence


class OutOfBlocks(Exception):
    """The pool has fewer available blocks than requested."""


class BlockPool:
    """A fixed number of blocks with reference counts.

    Allocates the lowest unused block first, so that memory is touched only as the cache fills.
    """

    def __init__(self, blocks: int, block_size: int) -> None:
        self.blocks = blocks
        self.block_size = block_size
        self._unused = list(range(blocks))  # a heap
        self._references: dict[int, int] = {}
        self._evictable: OrderedDict[int, None] = OrderedDict()  # published, without references, oldest first
        self._block_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}
        self._reserved = 0

    @property
    def free(self) -> int:
        """Number of blocks neither referenced nor reserved."""
        return len(self._unused) + len(self._evictable) - self._reserved

    @property
    def published(self) -> int:
        """Number of blocks that can be found by hash."""
        return len(self._hash_of)

    def reserve(self, count: int) -> None:
        """Reserve ``count`` blocks for later ``allocate`` calls. Raises OutOfBlocks."""
        if count > self.free:
            raise OutOfBlocks(f"{count} blocks requested, {self.free} free")
        self._reserved += count

    def unreserve(self, count: int) -> None:
        """Return ``count`` reserved blocks that were not allocated."""
        self._reserved -= count

    def allocate(self) -> int:
        """Allocate one reserved block, with undefined content."""
        self._reserved -= 1
        if self._unused:
            block = heapq.heappop(self._unused)
        else:
            block, _ = self._evictable.popitem(last=False)
            del self._block_of[self._hash_of.pop(block)]
        self._references[block] = 1
        return block

    def publish(self, block: int, block_hash: bytes) -> None:
        """Publish a full block under its hash, unless another block has that hash."""
        if block_hash not in self._block_of and block not in self._hash_of:
            self._block_of[block_hash] = block
            self._hash_of[block] = block_hash

    def find(self, block_hashes: Iterable[bytes]) -> list[int]:
        """Return the blocks of the longest cached prefix of ``block_hashes``. Safe to call from any thread."""
        found = []
        for block_hash in block_hashes:
            if (block := self._block_of.get(block_hash)) is None:
                break
            found.append(block)
        return found

    def evictable(self, blocks: Sequence[int]) -> int:
        """Count the ``blocks`` without references, which use up free blocks when they are acquired."""
        return sum(block in self._evictable for block in blocks)

    def acquire(self, blocks: Sequence[int]) -> None:
        """Add a reference to found blocks. The evictable ones among them must have been reserved."""
        self._reserved -= self.evictable(blocks)
        for block in blocks:
            self._evictable.pop(block, None)
            self._references[block] = self._references.get(block, 0) + 1

    def release(self, blocks: Sequence[int]) -> None:
        """Drop one reference from each block, given in token order. The end of a text is evicted before its start."""
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block]:
                continue
            del self._references[block]
            if block in self._hash_of:
                self._evictable[block] = None
            else:
                heapq.heappush(self._unused, block)

    def evict_all(self) -> None:
        """Evict every block without references."""
        for block in self._evictable:
            del self._block_of[self._hash_of.pop(block)]
            heapq.heappush(self._unused, block)
        self._evictable.clear()


class BlockTable:
    """The blocks of one sequence in token order, and the number of tokens written to them."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._reserved = 0
        self.blocks: list[int] = []
        self.length = 0

    def open(self, cached: Sequence[int], tokens: int) -> None:
        """Acquire the ``cached`` blocks and reserve the rest for ``tokens`` in total. Raises OutOfBlocks."""
        further = -(-tokens // self._pool.block_size) - len(cached)
        self._pool.reserve(further + self._pool.evictable(cached))
        self._pool.acquire(cached)
        self._reserved = further
        self.blocks = list(cached)
        self.length = len(cached) * self._pool.block_size

    def extend(self, tokens: int) -> None:
        """Allocate reserved blocks for ``tokens`` more tokens."""
        for _ in range(-(-(self.length + tokens) // self._pool.block_size) - len(self.blocks)):
            self.blocks.append(self._pool.allocate())
            self._reserved -= 1

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` as written."""
        self.length += tokens

    def release(self) -> None:
        """Return all blocks to the pool."""
        self._pool.unreserve(self._reserved)
        self._pool.release(self.blocks)
        self._reserved = 0
        self.blocks = []
        self.length = 0
