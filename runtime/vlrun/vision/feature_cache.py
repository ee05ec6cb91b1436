"""A cache of image features within a memory budget.

The KV cache shares full blocks only, so the last few visual tokens of a cached image run again and need their features.
These tails have a small budget of their own, in which they outlive the complete features.
"""

from __future__ import annotations

from collections import OrderedDict

from vlrun.vision.features import ImageFeatures


class FeatureCache:
    """Image features by image key.

    Args:
        budget: Bytes for complete features.
        tail: Tokens in the tail of an image.
        tails_budget: Bytes for tails.
    """

    def __init__(self, budget: int, tail: int, tails_budget: int) -> None:
        self._tail = tail
        self._whole = _LRU(budget)
        self._tails = _LRU(tails_budget)

    def put(self, key: bytes, features: ImageFeatures) -> None:
        """Store an image's features and its tail, each if its budget allows."""
        self._whole.put(key, features)
        tail = features.last(self._tail).values.copy() if features.tokens > self._tail else features.values
        self._tails.put(key, ImageFeatures(tail))

    def put_tail(self, key: bytes, features: ImageFeatures) -> None:
        """Store the features of an image's last tokens, unless more are stored already."""
        stored = self._tails.get(key)
        if stored is None or stored.tokens < features.tokens:
            self._tails.put(key, features)

    def get(self, key: bytes, tokens: int, start: int) -> ImageFeatures | None:
        """Return the features from token ``start`` on of an image with ``tokens`` tokens, if stored."""
        for cache in (self._whole, self._tails):
            features = cache.get(key)
            if features is not None and features.tokens >= tokens - start:
                return features.last(tokens - start)
        return None

    @property
    def nbytes(self) -> int:
        """Bytes in use."""
        return self._whole.nbytes + self._tails.nbytes


class _LRU:
    """Features by key within a budget of bytes, with LRU eviction."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._features: OrderedDict[bytes, ImageFeatures] = OrderedDict()
        self.nbytes = 0

    def put(self, key: bytes, features: ImageFeatures) -> None:
        if features.nbytes > self._budget:
            return  # would evict everything, itself included
        old = self._features.pop(key, None)
        self.nbytes += features.nbytes - (old.nbytes if old else 0)
        self._features[key] = features
        while self.nbytes > self._budget:
            _, evicted = self._features.popitem(last=False)
            self.nbytes -= evicted.nbytes

    def get(self, key: bytes) -> ImageFeatures | None:
        if key in self._features:
            self._features.move_to_end(key)
        return self._features.get(key)
