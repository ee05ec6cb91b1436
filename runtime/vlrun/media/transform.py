"""Maps pixel coordinates of a cropped or rotated image to the original image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

from vlrun.errors import OptionError
from vlrun.types.arguments import check_fields, number, tuple_of, whole_number

Matrix: TypeAlias = tuple[float, float, float, float, float, float]
"""``(a, b, c, d, e, f)`` maps ``(x, y)`` to ``(a x + b y + c, d x + e y + f)``."""

Corners: TypeAlias = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""The top left, top right and bottom left corner of an image: where an affine map has put it."""

IDENTITY: Matrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class ImageTransform:
    """An affine map to an original image.

    Attributes:
        size: Width and height of the original.
        matrix: Maps pixel coordinates of the derived image to the original.
    """

    size: tuple[int, int]
    matrix: Matrix = IDENTITY

    def __post_init__(self) -> None:
        checks = {"size": tuple_of(whole_number, "whole numbers"), "matrix": tuple_of(number, "numbers")}
        check_fields(self, checks)
        lengths = [len(part) for part in (self.size, self.matrix)]
        if lengths != [2, 6] or min(self.size) < 1 or not all(map(math.isfinite, self.matrix)):
            raise OptionError("size must be a width and a height above 0, and matrix six finite numbers")

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Map a point, clamped to the original."""
        x, y = number("x", x), number("y", y)
        a, b, c, d, e, f = self.matrix
        width, height = self.size
        return min(max(a * x + b * y + c, 0.0), float(width)), min(max(d * x + e * y + f, 0.0), float(height))

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        """Map a box: the axis-aligned box around its mapped corners, clamped to the original."""
        edges = {"left": left, "top": top, "right": right, "bottom": bottom}
        left, top, right, bottom = (number(name, value) for name, value in edges.items())
        corners = [self.point(x, y) for x in (left, right) for y in (top, bottom)]
        across, down = zip(*corners, strict=True)
        return min(across), min(down), max(across), max(down)

    def corners(self, width: int, height: int) -> Corners:
        """Map the top left, top right and bottom left corner of a derived image of this size, not clamped."""
        a, b, c, d, e, f = self.matrix
        return (c, f), (a * width + c, d * width + f), (b * height + c, e * height + f)

    def compose(self, matrix: Matrix) -> ImageTransform:
        """Return the transform of an image derived from this one; ``matrix`` maps its pixels to this image's."""
        a, b, c, d, e, f = self.matrix
        p, q, r, s, t, u = matrix
        return replace(
            self,
            matrix=(a * p + b * s, a * q + b * t, a * r + b * u + c, d * p + e * s, d * q + e * t, d * r + e * u + f),
        )
