"""Parses times in answers about videos: "4.5 seconds", "from 3 to 7 s", "00:03 - 00:07.5", JSON with start and end."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vlrun.types.time_span import TimeSpan

TOLERANCE = 1.0
"""Seconds after the last frame that still count: a model rounds up. What is later is a duration, or made up."""

_NUMBER = r"[0-9]{1,6}(?:\.[0-9]{1,6})?"
_CLOCK = r"(?:[0-9]{1,2}:)?[0-9]{1,3}:[0-9]{2}(?:\.[0-9]{1,6})?"
_UNIT = r"(?:\s{0,2}(?:seconds?|secs?|s)\b|\s?秒)"
_TIMED = rf"(?:{_CLOCK}|{_NUMBER}{_UNIT})"
_DASH = r"\s{0,2}(?:-|–|—|~|to|until|till|through|[到至]第?)\s{0,2}"
_KEY = r"\"(?:start|begin|from)(?:_?time|_?seconds?)?\"\s{0,2}:\s{0,2}\"?"
_END_KEY = r"\"(?:end|to|stop)(?:_?time|_?seconds?)?\"\s{0,2}:\s{0,2}\"?"
_POINT_KEY = r"\"(?:time|timestamp|seconds?|time_seconds|moment)\"\s{0,2}:\s{0,2}\"?"
_PLAIN = rf"(?:{_CLOCK}|{_NUMBER})"
_FOUND = re.compile(
    # A number is not the rest of a longer one, of a word, or of a clock.
    rf"{_KEY}(?P<start_key>{_PLAIN}){_UNIT}?\"?\s{{0,9}},\s{{0,9}}{_END_KEY}(?P<end_key>{_PLAIN}){_UNIT}?"
    rf"|{_POINT_KEY}(?P<point_key>{_PLAIN}){_UNIT}?"
    rf"|(?<![A-Za-z0-9_.:])(?P<between>between )(?P<low>{_PLAIN}){_UNIT}? and (?P<high>{_TIMED})"
    rf"|(?<![A-Za-z0-9_.:])(?P<first>{_PLAIN}){_UNIT}?{_DASH}(?P<last>{_TIMED})"
    rf"|(?<![A-Za-z0-9_.:])(?P<point>{_TIMED})(?![A-Za-z0-9_:])",
    re.IGNORECASE,
)
_PAIRS = (("start_key", "end_key"), ("low", "high"), ("first", "last"))


def find_times(text: str, last: float) -> tuple[TimeSpan, ...]:
    """Return the moments and parts of a video that an answer names, in order.

    Args:
        text: The answer, possibly cut short.
        last: Seconds of the last frame.
    """
    return tuple(found for found in _find(text) if found.end <= last + TOLERANCE)


def _find(text: str) -> Iterator[TimeSpan]:
    for match in _FOUND.finditer(text):
        for first, second in _PAIRS:
            if match[first] is not None:
                start, end = _seconds(match[first]), _seconds(match[second])
                if start <= end:
                    yield TimeSpan(start, end, match.span())
        point = match["point_key"] or match["point"]
        if point is not None:
            seconds = _seconds(point)
            yield TimeSpan(seconds, seconds, match.span())


def _seconds(written: str) -> float:
    """Return the seconds of a number, with or without a unit, or of a clock time."""
    if ":" in written:
        total = 0.0
        for part in written.split(":"):
            total = 60 * total + float(part)
        return total
    return float(re.match(_NUMBER, written)[0])  # type: ignore[index] # it begins with one
