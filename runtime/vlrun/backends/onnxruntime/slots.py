"""Where the blocks of a KV cache lie: in the slots of running sequences, or in pages.

A sequence runs in a slot that has its blocks in one piece. A block has its content in one place or in several; a new
content leaves only the place where it was written. A slot keeps the blocks of an ended sequence until it is needed:
the next question about the same image finds them there, and nothing is copied. What a slot must give up and no other
place has moves to a page. Sequences that share a prefix have copies of it. The number of places is limited, so the
cache stays within its memory: what would exceed it runs one sequence after another, in the same slot.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vlrun.types.arrays import FloatArray

PAGE = -1
"""Place of a block in its page, beside the numbers of the slots."""


class Memory(Protocol):
    """What ``cache_memory.CacheMemory`` offers."""

    pages: FloatArray

    def in_slot(self, slot: int, index: int) -> FloatArray:
        """Return a view of a block of a slot."""

    def free_page(self, block: int) -> None:
        """Give the memory of a page back."""

    def free_in_slot(self, slot: int, first: int, count: int) -> None:
        """Give the memory of blocks of a slot back."""


@dataclass(frozen=True)
class Extent:
    """The blocks of a sequence that a pass needs.

    Attributes:
        blocks: Block table, up to the last token of the pass.
        kept: Number of blocks at its start whose content the pass reads.
        written: Index of the first block that the pass writes.
        tokens: Tokens in the cache before the pass.
        length: Tokens of the pass.
    """

    blocks: Sequence[int]
    kept: int
    written: int
    tokens: int
    length: int


class Slots:
    """Places of blocks.

    Args:
        memory: The memory of slots and pages.
        slots: Number of slots.
        places: Limit of places; at least as many as there are blocks.
        capacity: Tokens of a slot.
    """

    def __init__(self, memory: Memory, slots: int, places: int, capacity: int) -> None:
        self._memory = memory
        self._limit, self._capacity = places, capacity
        self._held: list[list[int | None]] = [[] for _ in range(slots)]
        self._places: dict[int, dict[int, int]] = {}  # block -> slot -> index in it; PAGE -> 0
        self._used = [0] * slots
        self._passes = 0
        self.count = 0
        """Number of places."""

    def split(self, extents: Sequence[Extent]) -> list[list[int]]:
        """Divide sequences into groups that can run at once, as indices: there are few slots, and limited memory."""
        groups: list[list[int]] = []
        for index, extent in enumerate(extents):
            if groups and self._fits([*(extents[other] for other in groups[-1]), extent]):
                groups[-1].append(index)
            else:
                groups.append([index])
        return groups

    def place(self, extents: Sequence[Extent]) -> list[int]:
        """Bring the blocks of a group into slots, and count those that the pass will write as written.

        Returns:
            The slot of each sequence.
        """
        self._passes += 1
        chosen = self._choose(extents)
        for extent, slot in zip(extents, chosen, strict=True):
            self._used[slot] = self._passes
            self._make_room(extent, slot)
        needed = {(block, slot) for extent, slot in zip(extents, chosen, strict=True) for block in extent.blocks}
        for extent, slot in zip(extents, chosen, strict=True):
            self._fill(extent, slot, needed)
        for extent, slot in zip(extents, chosen, strict=True):
            for index in range(extent.written, len(extent.blocks)):
                self._keep_only(extent.blocks[index], slot, index)
        return chosen

    def read(self, block: int) -> FloatArray:
        """Return the content of a block, as a view."""
        place, index = next(iter(self._places.get(block, {PAGE: 0}).items()))
        return self._memory.pages[block] if place == PAGE else self._memory.in_slot(place, index)

    def write(self, block: int, content: FloatArray) -> None:
        """Give a block a new content, in its page."""
        self._keep_only(block, PAGE, 0)
        self._memory.pages[block] = content
        self._drop_duplicates(0, ())

    def _fits(self, extents: Sequence[Extent]) -> bool:
        longest = max(extent.length for extent in extents)
        if len(extents) > len(self._held) or any(one.tokens + longest > self._capacity for one in extents):
            return False
        needed = set[int]().union(*(extent.blocks for extent in extents))
        duplicates = sum(len(extent.blocks) for extent in extents) - len(needed)
        return len(needed | self._places.keys()) + duplicates <= self._limit

    def _choose(self, extents: Sequence[Extent]) -> list[int]:
        """Choose the slot that already has most of a sequence's blocks, or an empty one, or the least recently used."""
        scores = sorted(
            (
                (_common(held, extent.blocks[: extent.kept]), index, slot)
                for index, extent in enumerate(extents)
                for slot, held in enumerate(self._held)
            ),
            key=lambda entry: (-entry[0], entry[1], entry[2]),
        )
        chosen: dict[int, int] = {}
        for score, index, slot in scores:
            if score and index not in chosen and slot not in chosen.values():
                chosen[index] = slot
        for index in range(len(extents)):
            if index not in chosen:
                free = [slot for slot in range(len(self._held)) if slot not in chosen.values()]
                chosen[index] = min(free, key=self._age)
        return [chosen[index] for index in range(len(extents))]

    def _age(self, slot: int) -> tuple[bool, int]:
        """Return what is smallest for the slot to use next: an empty one, then the least recently used."""
        return any(block is not None for block in self._held[slot]), self._used[slot]

    def _make_room(self, extent: Extent, slot: int) -> None:
        """Remove other blocks from where those of a sequence belong."""
        held = self._held[slot]
        removed = []
        for index, block in enumerate(extent.blocks):
            other = held[index] if index < len(held) else None
            if other is not None and other != block:
                self._save(other, slot, index)
                removed.append(index)
        self._free(slot, removed)

    def _fill(self, extent: Extent, slot: int, needed: Collection[tuple[int, int]]) -> None:
        """Copy the content that a pass reads into its slot."""
        held = self._held[slot]
        held.extend([None] * (len(extent.blocks) - len(held)))
        for index, block in enumerate(extent.blocks):
            if held[index] == block:
                continue
            places = list(self._places.get(block, {}))
            if index < extent.kept:
                self._memory.in_slot(slot, index)[:] = self.read(block)
                places = [place for place in places if place == PAGE]
            for place in places:
                self._remove(block, place)
            self._drop_duplicates(1, needed)
            self._add(block, slot, index)

    def _save(self, block: int, slot: int, index: int) -> None:
        """Remove a block from a slot; its content moves to its page if it is nowhere else."""
        if len(self._places[block]) == 1:
            self._memory.pages[block] = self._memory.in_slot(slot, index)
            self._places[block][PAGE] = 0
        else:
            self.count -= 1
        del self._places[block][slot]
        self._held[slot][index] = None

    def _keep_only(self, block: int, place: int, index: int) -> None:
        """Make a place the only one of a block."""
        for other in [other for other in self._places.get(block, {}) if other != place]:
            self._remove(block, other)
        if place not in self._places.setdefault(block, {}):
            self._add(block, place, index)

    def _add(self, block: int, place: int, index: int) -> None:
        self._places.setdefault(block, {})[place] = index
        self.count += 1
        if place != PAGE:
            self._held[place][index] = block

    def _remove(self, block: int, place: int) -> None:
        """Remove a place of a block, and its memory."""
        index = self._places[block].pop(place)
        self.count -= 1
        if not self._places[block]:
            del self._places[block]
        if place == PAGE:
            self._memory.free_page(block)
        else:
            self._held[place][index] = None
            self._memory.free_in_slot(place, index, 1)

    def _drop_duplicates(self, wanted: int, needed: Collection[tuple[int, int]]) -> None:
        """Remove further places of blocks, unless they are needed, until there is room for ``wanted`` more."""
        excess = self.count + wanted - self._limit
        if excess <= 0:
            return
        for block, places in self._places.items():
            for place in [place for place in places if (block, place) not in needed]:
                if excess > 0 and len(places) > 1:
                    self._remove(block, place)
                    excess -= 1

    def _free(self, slot: int, indices: Sequence[int]) -> None:
        """Free blocks of a slot in runs of neighbours."""
        if not indices:
            return
        numbers = np.array(indices)
        for run in np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1):
            self._memory.free_in_slot(slot, int(run[0]), len(run))


def _common(held: Sequence[int | None], blocks: Sequence[int]) -> int:
    """Return how many blocks at the start are the same."""
    if held[: len(blocks)] == blocks:
        return len(blocks)
    pairs = enumerate(zip(held, blocks, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(held), len(blocks)))
