"""Boxes and points that an answer names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A labelled ``box`` (left, top, right, bottom), or a ``point`` (x, y), in pixels of the original image.

    ``label`` is one line without control characters or spaces around it, and empty if the answer gives none.
    """

    label: str
    box: tuple[float, float, float, float] | None
    point: tuple[float, float] | None
