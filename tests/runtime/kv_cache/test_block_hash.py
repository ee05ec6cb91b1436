"""Block hashes: the keys of the prefix cache."""

from __future__ import annotations

from vlrun.kv_cache.block_hash import ImageSpan, block_hashes

SIZE = 4


def test_hashes_cover_everything_that_a_block_depends_on() -> None:
    """A hash covers the ids before the block and in it, which image, and which part of it."""
    ids = [1, 9, 9, 9, 9, 9, 9, 2, 3, 4, 5, 6]

    def hashes(ids: list[int], *images: ImageSpan) -> list[bytes]:
        return list(block_hashes(b"root", ids, images, SIZE))

    original = hashes(ids, ImageSpan(1, 6, b"red"))
    assert len(set(original)) == 3
    assert original[:2] == hashes(ids[:9], ImageSpan(1, 6, b"red"))
    others = [
        hashes([0, *ids[1:]], ImageSpan(1, 6, b"red")),
        hashes(ids, ImageSpan(1, 6, b"blue")),
        hashes(ids, ImageSpan(0, 6, b"red")),
        hashes(ids),
    ]
    for other in others:
        assert not set(other) & set(original)
    later = list(block_hashes(original[0], ids, [ImageSpan(1, 6, b"red")], SIZE, first=1))
    assert later == original[1:]


def test_models_share_no_hash() -> None:
    """The root of the chain stands for the model and the precision."""
    first, second = (list(block_hashes(root, list(range(12)), [], SIZE)) for root in (b"one", b"two"))
    assert len(first) == 3
    assert not set(first) & set(second)
