"""Block bookkeeping: nothing is lost, nothing is given twice, nothing is found that is not there."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlrun.kv_cache.block_hash import ImageSpan, block_hashes
from vlrun.kv_cache.block_pool import BlockPool, BlockTable, OutOfBlocks

SIZE = 4


def opened(pool: BlockPool, tokens: int, names: list[bytes] | None = None) -> BlockTable:
    table = BlockTable(pool)
    table.open(pool.find(names or []), tokens)
    return table


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 30)), max_size=60))
def test_blocks_add_up(steps: list[tuple[int, int, int]]) -> None:
    """Guards against blocks lost, or shared by accident: whatever four sequences of three texts do, a block is held by
    those of one text alone, and a name leads to the block that was written under it.
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


def test_full_pool_refuses_and_keeps_what_it_has() -> None:
    """Guards against a half-taken reservation, and against promising the same room twice."""
    pool = BlockPool(3, 32)
    table = opened(pool, 33)
    assert pool.free == 1
    with pytest.raises(OutOfBlocks, match="2 blocks requested, 1 free"):
        opened(pool, 64)
    assert (table.blocks, pool.free) == ([], 1)
    table.release()
    assert pool.free == 3


def test_lowest_block_first() -> None:
    """Guards memory: a short question touches only the beginning of the cache, also after others have come and gone."""
    pool = BlockPool(8, 32)
    first, second = opened(pool, 64), opened(pool, 64)
    first.extend(64)
    second.extend(64)
    first.release()
    second.release()
    third = opened(pool, 1)
    third.extend(1)
    assert third.blocks == [0]


def test_the_end_of_the_oldest_text_is_forgotten_first() -> None:
    """Guards the prefix cache: what was used last stays, and of a text its beginning stays longest."""
    pool = BlockPool(4, SIZE)
    for text in (b"a", b"b", b"a"):
        table = opened(pool, 8, [text + b"0", text + b"1"])
        table.extend(8 - table.length)
        for number, block in enumerate(table.blocks):
            pool.publish(block, text + str(number).encode())
        table.release()
    assert pool.published == 4
    for expected in ((2, 1), (2, 0), (1, 0)):
        opened(pool, 1).extend(1)
        assert (len(pool.find([b"a0", b"a1"])), len(pool.find([b"b0", b"b1"]))) == expected
    pool.evict_all()
    assert pool.find([b"a0"]) == []


def test_names_cover_all_that_a_block_depends_on() -> None:
    """Guards the key of the cache: earlier ids, own ids, which image, and which part of it."""
    ids = [1, 9, 9, 9, 9, 9, 9, 2, 3, 4, 5, 6]

    def names(ids: list[int], *images: ImageSpan) -> list[bytes]:
        return list(block_hashes(b"root", ids, images, SIZE))

    plain = names(ids, ImageSpan(1, 6, b"red"))
    assert len(set(plain)) == 3
    assert plain[:2] == names(ids[:9], ImageSpan(1, 6, b"red"))
    others = [
        names([0, *ids[1:]], ImageSpan(1, 6, b"red")),
        names(ids, ImageSpan(1, 6, b"blue")),
        names(ids, ImageSpan(0, 6, b"red")),
        names(ids),
    ]
    for other in others:
        assert not set(other) & set(plain)
    later = list(block_hashes(plain[0], ids, [ImageSpan(1, 6, b"red")], SIZE, first=1))
    assert later == plain[1:]
