"""The arithmetic of a load test: percentiles, slopes, fairness. Knows numbers alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of all lie, between the two nearest if need be; NaN of no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Rise per step to the right, by least squares; NaN unless the points stand at two places at least."""
    if len({across for across, _ in points}) < 2:
        return math.nan
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def fairness(waits: Mapping[str, Sequence[float]]) -> tuple[float, float, float]:
    """Of the medians of every client's waits: the least, the middle, the most. Clients that never waited for anything
    do not count; NaN of none.
    """
    medians = [statistics.median(seconds) for seconds in waits.values() if seconds]
    if not medians:
        return math.nan, math.nan, math.nan
    return min(medians), statistics.median(medians), max(medians)
