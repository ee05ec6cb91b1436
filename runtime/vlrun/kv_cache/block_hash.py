"""Names of full blocks: a chain of hashes over all that the keys and values of a prefix depend on.

A block's name covers the name of the block before it, its token ids and, where visual tokens stand in it, the key of
their image and which of its tokens they are. Token ids alone would give one image the answer of another: all visual
tokens share one id. The chain begins with a root that stands for the model and how it runs. Positions follow from ids
and images, so they need no place in it. Knows bytes; does not know blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImageSpan:
    """Visual tokens ``start .. start + tokens`` of a prompt; ``key`` names the image's content and its grid."""

    start: int
    tokens: int
    key: bytes


def block_hashes(
    parent: bytes, ids: Sequence[int], images: Sequence[ImageSpan], block_size: int, begin: int = 0
) -> Iterator[bytes]:
    """Names of the full blocks of ``ids`` that lie behind block ``begin``, whose predecessor is named ``parent``."""
    for start in range(begin * block_size, len(ids) - block_size + 1, block_size):
        end = start + block_size
        digest = hashlib.sha256(parent)
        digest.update(np.asarray(ids[start:end], np.int64).tobytes())
        for image in images:
            low, high = max(start, image.start), min(end, image.start + image.tokens)
            if low < high:
                digest.update(f"|{low - start}+{high - low} from {low - image.start} of ".encode() + image.key)
        parent = digest.digest()
        yield parent
