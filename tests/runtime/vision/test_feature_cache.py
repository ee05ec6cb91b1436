"""The cache of image features: two budgets, for whole features and for their tails."""

from __future__ import annotations

import numpy as np

from vlrun.vision.feature_cache import FeatureCache
from vlrun.vision.features import ImageFeatures


def features(tokens: int, hidden: int = 8) -> ImageFeatures:
    return ImageFeatures(np.arange(2 * tokens * hidden, dtype=np.float32).reshape(2, tokens, hidden))


def test_tails_outlive_evicted_features() -> None:
    """The last visual tokens run again when their image ends inside a cached block."""
    one = features(100)
    cache = FeatureCache(budget=one.nbytes, tail=7, tails_budget=2**20)
    for key in (b"a", b"b"):
        cache.put(key, one)
    assert cache.get(b"a", 100, 0) is None
    tail = cache.get(b"a", 100, 95)
    assert tail is not None
    assert np.array_equal(tail.values, one.values[:, 95:])
    whole = cache.get(b"b", 100, 0)
    assert whole is not None
    assert whole.tokens == 100


def test_both_budgets_are_kept() -> None:
    one = features(100)
    cache = FeatureCache(budget=3 * one.nbytes, tail=7, tails_budget=5 * one.last(7).nbytes)
    for number in range(20):
        cache.put(bytes([number]), one)
        assert cache.nbytes <= 3 * one.nbytes + 5 * one.last(7).nbytes
    cache.put(b"large", features(1000))
    assert cache.get(b"large", 1000, 0) is None
    assert cache.get(bytes([19]), 100, 0) is not None
