"""Hashes of full blocks, chained over everything that the keys and values of a prefix depend on.

A block's hash covers the hash of the previous block, its token ids and, for visual tokens, the image key and their
indices in the image: all visual tokens share one id, so ids alone would confuse images. The chain starts with a root
hash of the model and its settings. Positions follow from ids and images and need no hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImageSpan:
    """Visual tokens ``start .. start + tokens`` of a prompt; ``key`` identifies the image's content and grid."""

    start: int
    tokens: int
    key: bytes

    @property
    def end(self) -> int:
        """Index of the first token after the image."""
        return self.start + self.tokens


def block_hashes(
    parent: bytes, ids: Sequence[int], images: Sequence[ImageSpan], block_size: int, first: int = 0
) -> Iterator[bytes]:
    """Yield the hashes of the full blocks of ``ids`` from block ``first`` on, whose predecessor has hash ``parent``."""
    for start in range(first * block_size, len(ids) - block_size + 1, block_size):
        end = start + block_size
        digest = hashlib.sha256(parent)
        digest.update(np.asarray(ids[start:end], np.int64).tobytes())
        for image in images:
            low, high = max(start, image.start), min(end, image.end)
            if low < high:
                digest.update(f"|{low - start}+{high - low} from {low - image.start} of ".encode() + image.key)
        parent = digest.digest()
        yield parent
