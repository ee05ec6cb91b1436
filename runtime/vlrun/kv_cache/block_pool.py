"""Blocks of the KV cache: which are free, who holds them, and which can be found again by name. Plain Python.

A block holds the keys and values of ``block_size`` tokens in every layer. A full block may carry a name, which stands
for all that its content depends on (``block_hash``); sequences that need the same content hold the same block. A named
block that nobody holds any more stays findable until its room is needed: the least recently used goes first. Knows
counts and names; does not know devices, ids or what a token means.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Sequence


class NoRoom(Exception):
    """Others hold the blocks that were asked for."""


class BlockPool:
    """A fixed number of blocks. Among unused ones the lowest is given out first: memory is touched only as needed."""

    def __init__(self, blocks: int, block_size: int) -> None:
        self.blocks = blocks
        self.block_size = block_size
        self._unused = list(range(blocks))  # a heap
        self._holders: dict[int, int] = {}
        self._left: OrderedDict[int, None] = OrderedDict()  # named, held by nobody, the oldest first
        self._by_name: dict[bytes, int] = {}
        self._names: dict[int, bytes] = {}
        self._promised = 0

    @property
    def free(self) -> int:
        """Blocks that nobody holds and that are promised to nobody."""
        return len(self._unused) + len(self._left) - self._promised

    @property
    def named(self) -> int:
        """Blocks that can be found again, held or not."""
        return len(self._names)

    def promise(self, count: int) -> None:
        """Set ``count`` blocks aside. Raises NoRoom."""
        if count > self.free:
            raise NoRoom(f"{count} blocks are wanted, {self.free} is free")
        self._promised += count

    def withdraw(self, count: int) -> None:
        """Take back a promise that was not used up."""
        self._promised -= count

    def take(self) -> int:
        """A block out of those promised, its content anything."""
        self._promised -= 1
        if self._unused:
            block = heapq.heappop(self._unused)
        else:
            block, _ = self._left.popitem(last=False)
            del self._by_name[self._names.pop(block)]
        self._holders[block] = 1
        return block

    def name(self, block: int, name: bytes) -> None:
        """Make a held, full block findable. Where another one has that name already, that one stays."""
        if name not in self._by_name and block not in self._names:
            self._by_name[name] = block
            self._names[block] = name

    def find(self, names: Iterable[bytes]) -> list[int]:
        """The blocks that carry the first of ``names``, up to the first that nobody carries. Any thread may look."""
        found = []
        for name in names:
            if (block := self._by_name.get(name)) is None:
                break
            found.append(block)
        return found

    def idle(self, blocks: Sequence[int]) -> int:
        """How many of ``blocks`` nobody holds: to hold them costs as much room as to take new ones."""
        return sum(block in self._left for block in blocks)

    def hold(self, blocks: Sequence[int]) -> None:
        """Become a holder of blocks that were found. Room for the idle ones among them must have been promised."""
        self._promised -= self.idle(blocks)
        for block in blocks:
            self._left.pop(block, None)
            self._holders[block] = self._holders.get(block, 0) + 1

    def give_back(self, blocks: Sequence[int]) -> None:
        """Let go of blocks, given in the order of their tokens: the end of a text is forgotten before its beginning."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            del self._holders[block]
            if block in self._names:
                self._left[block] = None
            else:
                heapq.heappush(self._unused, block)

    def forget(self) -> None:
        """Make unfindable all that nobody holds."""
        for block in self._left:
            del self._by_name[self._names.pop(block)]
            heapq.heappush(self._unused, block)
        self._left.clear()


class BlockTable:
    """The blocks of one sequence, in order, and how many tokens they hold."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._promise = 0
        self.blocks: list[int] = []
        self.length = 0

    def open(self, found: Sequence[int], tokens: int) -> None:
        """Start with blocks that were found, and set room aside for ``tokens`` in all. Raises NoRoom."""
        further = -(-tokens // self._pool.block_size) - len(found)
        self._pool.promise(further + self._pool.idle(found))
        self._pool.hold(found)
        self._promise = further
        self.blocks = list(found)
        self.length = len(found) * self._pool.block_size

    def reserve(self, tokens: int) -> None:
        """Have blocks for ``tokens`` more behind those already held, out of the room set aside."""
        for _ in range(-(-(self.length + tokens) // self._pool.block_size) - len(self.blocks)):
            self.blocks.append(self._pool.take())
            self._promise -= 1

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` as written."""
        self.length += tokens

    def release(self) -> None:
        """Give everything back; the sequence is empty again."""
        self._pool.withdraw(self._promise)
        self._pool.give_back(self.blocks)
        self._promise = 0
        self.blocks = []
        self.length = 0
