"""Image features and their cache."""

from __future__ import annotations

import numpy as np
import pytest

from vlrun.vision.feature_cache import FeatureCache
from vlrun.vision.features import ImageFeatures


def features(tokens: int, hidden: int = 8) -> ImageFeatures:
    return ImageFeatures(np.arange(2 * tokens * hidden, dtype=np.float32).reshape(2, tokens, hidden))


def test_another_shape_or_type_is_refused() -> None:
    """Guards DeepStack rows, which other projects lose or lay out wrongly."""
    with pytest.raises(ValueError, match="float32"):
        ImageFeatures(np.zeros((4, 8), np.float32))
    with pytest.raises(ValueError, match="float32"):
        ImageFeatures(np.zeros((2, 4, 8)))  # type: ignore[arg-type]  # float64


def test_the_tail_outlives_the_whole() -> None:
    """Guards the last visual tokens, which run again when their image is in the KV cache."""
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


def test_budgets_hold() -> None:
    one = features(100)
    cache = FeatureCache(budget=3 * one.nbytes, tail=7, tails_budget=5 * one.last(7).nbytes)
    for number in range(20):
        cache.put(bytes([number]), one)
        assert cache.nbytes <= 3 * one.nbytes + 5 * one.last(7).nbytes
    cache.put(b"large", features(1000))
    assert cache.get(b"large", 1000, 0) is None
    assert cache.get(bytes([19]), 100, 0) is not None
