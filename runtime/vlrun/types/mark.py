"""Boxes and points in an answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A labelled box or point in pixels of the original image.

    Attributes:
        label: One line without control characters or outer white space; empty if the answer has none.
        box: Left, top, right, bottom; None for a point.
        point: x, y; None for a box.
    """

    label: str
    box: tuple[float, float, float, float] | None
    point: tuple[float, float] | None
