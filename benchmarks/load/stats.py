"""Statistics of a load test: percentiles, slopes, fairness."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Percentile ``share`` (0 to 1) of the values, interpolated; NaN without values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    index = share * (len(ordered) - 1)
    below = math.floor(index)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (index - below) * (ordered[above] - ordered[below])


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Slope of the least-squares line through points (x, y); NaN unless there are two different x."""
    if len({x for x, _ in points}) < 2:
        return math.nan
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def fairness(waits: Mapping[str, Sequence[float]]) -> tuple[float, float, float]:
    """Smallest, middle and largest median wait of the clients.

    Clients without any wait do not count; NaN if there are none.
    """
    medians = [statistics.median(seconds) for seconds in waits.values() if seconds]
    if not medians:
        return math.nan, math.nan, math.nan
    return min(medians), statistics.median(medians), max(medians)
