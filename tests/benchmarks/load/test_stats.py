"""Percentiles, slopes and fairness."""

from __future__ import annotations

import math

import pytest

from benchmarks.load.stats import fairness, percentile, slope


def test_percentiles_are_interpolated() -> None:
    assert percentile([4, 1, 3, 2], 0.5) == 2.5
    assert percentile(range(101), 0.95) == 95
    assert percentile([7], 0.95) == 7
    assert math.isnan(percentile([], 0.5))


def test_the_slope_is_that_of_the_least_squares_line() -> None:
    leak = [(number, 100 + 0.25 * number + (-1) ** number) for number in range(200)]
    assert slope(leak) == pytest.approx(0.25, abs=0.001)
    assert slope([(number, 100.0) for number in range(9)]) == 0
    assert math.isnan(slope([(1, 2.0), (1, 3.0)]))
    assert math.isnan(slope([]))


def test_fairness_compares_clients_not_requests() -> None:
    """A client with few requests counts as much as one with many."""
    waits = {"a": [0.5, 1.0, 8.0] * 33, "b": [1.2] * 100, "c": [9.0], "d": []}
    assert fairness(waits) == (1.0, 1.2, 9.0)
    assert all(math.isnan(value) for value in fairness({}))
