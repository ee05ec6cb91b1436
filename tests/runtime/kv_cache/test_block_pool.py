"""Block bookkeeping: allocation, sharing, eviction."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlrun.kv_cache.block_pool import BlockPool, BlockTable, OutOfBlocks

SIZE = 4


def open_table(pool: BlockPool, tokens: int, names: list[bytes] | None = None) -> BlockTable:
    table = BlockTable(pool)
    table.open(pool.find(names or []), tokens)
    return table


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 30)), max_size=60))
def test_blocks_are_neither_lost_nor_shared_between_texts(steps: list[tuple[int, int, int]]) -> None:
    """Four sequences of three texts: sequences share a block only if their texts are equal, and a hash finds the block
    that was published under it.
    """
    pool = BlockPool(12, SIZE)
    tables: list[tuple[BlockTable, int] | None] = [None] * 4
    written: dict[int, bytes] = {}
    for index, text, tokens in steps:
        if (held := tables[index]) is not None:
            held[0].release()
            tables[index] = None
        names = [bytes([text, number]) for number in range(tokens // SIZE)]
        found = pool.find(names)
        assert all(written[block] == name for block, name in zip(found, names, strict=False))
        table = BlockTable(pool)
        try:
            table.open(found, tokens)
        except OutOfBlocks:
            assert not table.blocks
        else:
            table.extend(tokens - table.length)
            for block, name in list(zip(table.blocks, names, strict=False))[len(found) :]:
                written[block] = name
                pool.publish(block, name)
            tables[index] = (table, text)
        holders = Counter(block for each in tables if each for block in each[0].blocks)
        assert len(holders) + pool.free == 12
        for block, count in holders.items():
            texts = {each[1] for each in tables if each and block in each[0].blocks}
            assert len(texts) == 1 or count == 1


def test_a_full_pool_refuses_a_reservation_as_a_whole() -> None:
    """Guards against a partial reservation, and against reserving a block twice."""
    pool = BlockPool(3, 32)
    table = open_table(pool, 33)
    assert pool.free == 1
    with pytest.raises(OutOfBlocks, match="2 blocks requested, 1 free"):
        open_table(pool, 64)
    assert (table.blocks, pool.free) == ([], 1)
    table.release()
    assert pool.free == 3


def test_the_lowest_free_block_is_taken_first() -> None:
    """Short requests touch only the first pages of the cache's memory."""
    pool = BlockPool(8, 32)
    first, second = open_table(pool, 64), open_table(pool, 64)
    first.extend(64)
    second.extend(64)
    first.release()
    second.release()
    third = open_table(pool, 1)
    third.extend(1)
    assert third.blocks == [0]


def test_the_end_of_the_least_recently_used_text_is_evicted_first() -> None:
    pool = BlockPool(4, SIZE)
    for text in (b"a", b"b", b"a"):
        table = open_table(pool, 8, [text + b"0", text + b"1"])
        table.extend(8 - table.length)
        for number, block in enumerate(table.blocks):
            pool.publish(block, text + str(number).encode())
        table.release()
    assert pool.published == 4
    for expected in ((2, 1), (2, 0), (1, 0)):
        open_table(pool, 1).extend(1)
        assert (len(pool.find([b"a0", b"a1"])), len(pool.find([b"b0", b"b1"]))) == expected
    pool.evict_all()
    assert pool.find([b"a0"]) == []
