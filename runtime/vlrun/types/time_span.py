"""Times in answers about videos."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TimeSpan:
    """A moment of a video, or a part of it.

    Attributes:
        start: Seconds from the beginning of the video.
        end: Seconds; equal to ``start`` for a moment.
        span: Start and end of its characters in the answer.
    """

    start: float
    end: float
    span: tuple[int, int]
