"""Merges answers: majority votes, sums, first values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vlrun.media.transform import ImageTransform
from vlrun.types.mark import Mark


def majority(values: Sequence[object], path: str, counts: dict[str, Mapping[str, int]]) -> object:
    """Return the most frequent value; of objects with the same keys, the most frequent value of each key.

    A tie between numbers goes to the middle one, any other tie to the first.

    Args:
        values: Parsed JSON values.
        path: Path of the values within the answer, "" for the whole answer.
        counts: Receives the votes for each value, by path.
    """
    first = values[0]
    if isinstance(first, dict) and all(isinstance(value, dict) and value.keys() == first.keys() for value in values):
        prefix = f"{path}." if path else ""
        return {
            name: majority([value[name] for value in values if isinstance(value, dict)], f"{prefix}{name}", counts)
            for name in first
        }
    votes = Counter(as_json(value) for value in values)
    counts[path] = votes
    most = max(votes.values())
    winners = [json.loads(text) for text, count in votes.items() if count == most]
    if all(isinstance(value, int | float) for value in winners):
        winners.sort()
        return winners[(len(winners) - 1) // 2]
    return winners[0]


def most_frequent(values: Sequence[object]) -> object:
    """Return the most frequent whole value."""
    return json.loads(Counter(map(as_json, values)).most_common(1)[0][0])


def sum_values(values: Sequence[object]) -> object:
    """Return the sum of numbers, key by key in objects. Other values: the value if all are equal, else their list."""
    objects = [value for value in values if isinstance(value, dict)]
    if len(objects) == len(values):
        names = dict.fromkeys(name for one in objects for name in one)
        return {name: sum_values([one[name] for one in objects if name in one]) for name in names}
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        return sum(numbers)
    return values[0] if all(value == values[0] for value in values) else list(values)


def first_values(values: Sequence[object]) -> object:
    """Return the first non-empty value of each key; the first value if none is an object."""
    objects = [value for value in values if isinstance(value, dict)]
    if not objects:
        return values[0]
    names = dict.fromkeys(name for one in objects for name in one)
    return {name: next((one[name] for one in objects if one.get(name) not in (None, "")), "") for name in names}


def in_original(mark: Mark, transform: ImageTransform) -> Mark:
    """Return a mark in pixels of the original image."""
    return replace(
        mark,
        box=transform.box(*mark.box) if mark.box else None,
        point=transform.point(*mark.point) if mark.point else None,
    )


def as_json(value: object) -> str:
    """Return JSON text with non-ASCII characters unescaped."""
    return json.dumps(value, ensure_ascii=False)
