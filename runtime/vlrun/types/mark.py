"""Boxes and points in an answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A labelled box or point in pixels of the original image.

    Attributes:
        label: One line without control characters; may be empty.
        box: Left, top, right, bottom; None for a point.
        point: x, y; None for a box.
    """

    label: str
    box: tuple[float, float, float, float] | None
    point: tuple[float, float] | None
