"""Block bookkeeping: nothing is lost, nothing is given twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlrun.cache.blocks import BlockPool, BlockTable
from vlrun.errors import ContextLengthExceeded


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 70)), max_size=40))
def test_blocks_add_up(steps: list[tuple[int, int]]) -> None:
    """Guards against blocks lost or shared by accident, whatever four sequences do; 0 tokens stand for an end."""
    pool = BlockPool(12, 32)
    tables = [BlockTable(pool) for _ in range(4)]
    for index, tokens in steps:
        table = tables[index]
        try:
            table.reserve(tokens)
            table.advance(tokens)
        except ContextLengthExceeded:
            pass
        if tokens == 0:
            table.release()
        held = [block for each in tables for block in each.blocks]
        assert len(held) == len(set(held))
        assert len(held) + pool.free == 12
        assert all(len(each.blocks) * 32 >= each.length for each in tables)


def test_full_pool_refuses_and_keeps_what_it_has() -> None:
    """Guards against a half-taken reservation."""
    pool = BlockPool(3, 32)
    with BlockTable(pool) as table:
        table.reserve(33)
        with pytest.raises(ContextLengthExceeded, match="room for 32 more tokens, not for 64"):
            table.reserve(128)
        assert (len(table.blocks), pool.free) == (2, 1)
    assert pool.free == 3


def test_lowest_block_first() -> None:
    """Guards memory: a short question touches only the beginning of the cache, also after others have come and gone."""
    pool = BlockPool(8, 32)
    first, second = BlockTable(pool), BlockTable(pool)
    first.reserve(64)
    second.reserve(64)
    first.release()
    second.release()
    with BlockTable(pool) as third:
        third.reserve(1)
        assert third.blocks == [0]
