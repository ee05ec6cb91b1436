"""Several answers made one: votes counted, numbers added up, fields filled in, boxes put back where they lie.

Knows data and marks; does not know who answered what.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vlrun.media.image import Image
from vlrun.types.mark import Mark

Spread = Mapping[str, Mapping[str, int]]
"""How often each value was answered: by its place in the answer, and as JSON. The whole answer's place is empty."""


def majority(values: Sequence[object], place: str, spread: dict[str, Mapping[str, int]]) -> object:
    """The most frequent value; of objects with the same names, that of each name. Of numbers equally frequent the
    middle one wins, else the first.
    """
    first = values[0]
    if isinstance(first, dict) and all(isinstance(value, dict) and value.keys() == first.keys() for value in values):
        inside = f"{place}." if place else ""
        return {
            name: majority([value[name] for value in values if isinstance(value, dict)], f"{inside}{name}", spread)
            for name in first
        }
    counts = Counter(as_json(value) for value in values)
    spread[place] = counts
    most = max(counts.values())
    best = [json.loads(text) for text, count in counts.items() if count == most]
    if all(isinstance(value, int | float) for value in best):
        best.sort()
        return best[(len(best) - 1) // 2]
    return best[0]


def most_frequent(values: Sequence[object]) -> object:
    """The value that was given most often, as a whole."""
    return json.loads(Counter(map(as_json, values)).most_common(1)[0][0])


def summed(values: Sequence[object]) -> object:
    """Numbers added up, name by name; what is no number stays if all agree, and is listed if not."""
    if all(isinstance(value, dict) for value in values):
        tables = [value for value in values if isinstance(value, dict)]
        names = dict.fromkeys(name for table in tables for name in table)
        return {name: summed([table[name] for table in tables if name in table]) for name in names}
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        return sum(numbers)
    return values[0] if all(value == values[0] for value in values) else list(values)


def first_of(values: Sequence[object]) -> object:
    """Of every field the first that is not empty; of other answers the first."""
    tables = [value for value in values if isinstance(value, dict)]
    if not tables:
        return values[0]
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: next((table[name] for table in tables if table.get(name) not in (None, "")), "") for name in names}


def in_original(mark: Mark, whole: Image) -> Mark:
    """A mark in the image that was asked about, in the one that was given."""
    frame = whole.frame
    return replace(
        mark,
        box=frame.box(*mark.box) if mark.box else None,
        point=frame.point(*mark.point) if mark.point else None,
    )


def as_json(value: object) -> str:
    """JSON as it is told, Chinese in its own letters."""
    return json.dumps(value, ensure_ascii=False)
