"""Random passes over sequences that share prefixes: every block keeps its content, in limited memory."""

from __future__ import annotations

import random

import numpy as np
import pytest

from vlrun.backends.onnxruntime.slots import Extent, Slots
from vlrun.kv_cache.block_pool import BlockPool, BlockTable, OutOfBlocks
from vlrun.types.arrays import FloatArray

SIZE, SLOTS, BLOCKS = 4, 3, 12
CAPACITY = BLOCKS * SIZE + 8


class FakeMemory:
    """A number for each token; freed memory reads as NaN."""

    def __init__(self, slots: int, blocks: int) -> None:
        self.cells = np.full((slots, CAPACITY), np.nan, np.float32)
        self.pages = np.full((blocks, SIZE), np.nan, np.float32)

    def in_slot(self, slot: int, index: int) -> FloatArray:
        return self.cells[slot, index * SIZE : (index + 1) * SIZE]

    def free_page(self, block: int) -> None:
        self.pages[block] = np.nan

    def free_in_slot(self, slot: int, first: int, count: int) -> None:
        self.cells[slot, first * SIZE : (first + count) * SIZE] = np.nan


class Text:
    """A sequence: its table, and the tokens that were written."""

    def __init__(self, pool: BlockPool, tokens: list[int], limit: int) -> None:
        self.table, self.tokens, self.pool = BlockTable(pool), tokens, pool
        cached = pool.find(self.hashes()[: (len(tokens) - 1) // SIZE])
        self.table.open(cached, limit)

    def hashes(self) -> list[bytes]:
        return [repr(self.tokens[: end + SIZE]).encode() for end in range(0, len(self.tokens) - SIZE + 1, SIZE)]

    def extent(self, length: int) -> Extent:
        past = self.table.length
        self.table.extend(length)
        end = -(-(past + length) // SIZE)
        return Extent(self.table.blocks[:end], -(-past // SIZE), past // SIZE, past, length)

    def advance(self, length: int) -> None:
        self.table.advance(length)
        for index, block_hash in enumerate(self.hashes()[: self.table.length // SIZE]):
            self.pool.publish(self.table.blocks[index], block_hash)


@pytest.mark.parametrize("places", [BLOCKS, BLOCKS + 4])
@pytest.mark.parametrize("seed", range(12))
def test_every_pass_finds_what_earlier_ones_wrote(seed: int, places: int) -> None:
    """Guards against foreign, stale or lost keys: shared prefixes, reused blocks, rejected guesses, stored prefixes."""
    rng = random.Random(seed)
    memory, pool = FakeMemory(SLOTS, BLOCKS), BlockPool(BLOCKS, SIZE)
    slots = Slots(memory, SLOTS, places, CAPACITY)
    running: list[Text] = []
    for _ in range(400):
        if len(running) < 5 and rng.random() < 0.4:
            start = rng.randrange(3)
            tokens = [start * 100 + index for index in range(rng.randrange(1, 20))] + [rng.randrange(1000, 1004)]
            try:
                running.append(Text(pool, tokens, rng.randrange(len(tokens), 26)))
            except OutOfBlocks:
                continue
        steps = [(text, min(rng.choice([1, 1, 3, 7]), len(text.tokens) - text.table.length)) for text in running]
        steps = [(text, length) for text, length in steps if length > 0 and rng.random() < 0.8]
        extents = [text.extent(length) for text, length in steps]
        groups = slots.split(extents)
        assert sorted(index for group in groups for index in group) == list(range(len(steps)))
        for group in groups:
            chosen = slots.place([extents[index] for index in group])
            assert len(set(chosen)) == len(chosen)
            for index, slot in zip(group, chosen, strict=True):
                text, length = steps[index]
                past = text.table.length
                assert memory.cells[slot, :past].tolist() == text.tokens[:past]
                memory.cells[slot, past : past + length] = text.tokens[past : past + length]
            assert slots.count <= places
        for text, length in steps:
            text.advance(length - rng.randrange(min(2, length)))  # the last token may be a rejected guess
        for text in [text for text in running if rng.random() < 0.1 or text.table.length == len(text.tokens)]:
            full = text.table.length // SIZE
            for index, block in enumerate(text.table.blocks[:full]):
                content = slots.read(block).copy()
                assert content.tolist() == text.tokens[index * SIZE : (index + 1) * SIZE]
                slots.write(block, content)  # what the prefix store gives back
                assert slots.count <= places
            text.table.release()
            running.remove(text)


def test_the_next_question_about_an_image_copies_nothing() -> None:
    """Guards against copying a long prefix before each answer."""
    memory = FakeMemory(SLOTS, BLOCKS)
    slots = Slots(memory, SLOTS, BLOCKS, CAPACITY)
    first = slots.place([Extent([0, 1, 2], 0, 0, 0, 10)])
    memory.cells[first[0], :10] = 1
    memory.pages[:] = np.nan
    assert slots.place([Extent([0, 1, 3], 2, 2, 8, 2)]) == first
    assert slots.count == 4  # block 2 moved to its page
    assert np.isnan(memory.pages[:2]).all()


def test_sequences_that_share_a_prefix_run_one_after_another_if_copies_do_not_fit() -> None:
    slots = Slots(FakeMemory(SLOTS, 6), SLOTS, 6, CAPACITY)
    extents = [Extent([0, 1, 2, 3], 0, 0, 0, 16), Extent([0, 1, 2, 4], 3, 3, 12, 1)]
    slots.place(extents[:1])
    assert slots.split(extents) == [[0], [1]]
    assert Slots(FakeMemory(SLOTS, 8), SLOTS, 8, CAPACITY).split(extents) == [[0, 1]]


def test_padding_must_fit_behind_every_sequence_of_a_group() -> None:
    """GroupQueryAttention refuses a chunk whose padding does not fit into the cache."""
    slots = Slots(FakeMemory(SLOTS, BLOCKS), SLOTS, BLOCKS, 20)
    assert slots.split([Extent([0, 1, 2], 3, 2, 10, 2), Extent([4, 5, 6], 0, 0, 0, 12)]) == [[0], [1]]


def test_pages_are_used_only_for_what_a_slot_gives_up() -> None:
    memory = FakeMemory(1, BLOCKS)
    slots = Slots(memory, 1, BLOCKS, CAPACITY)
    slots.place([Extent([0, 1], 0, 0, 0, 8)])
    memory.cells[0, :8] = range(8)
    slots.place([Extent([2], 0, 0, 0, 4)])
    memory.cells[0, :4] = 9
    assert memory.pages[0].tolist() == [0, 1, 2, 3]
    assert slots.read(1).tolist() == [4, 5, 6, 7]
