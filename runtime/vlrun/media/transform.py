"""Where an image lies in the original that it was cut out of or turned upright from.

Boxes in an answer speak of the image that the model saw; people want them in the image that they gave. Knows
coordinates; knows no pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

Matrix: TypeAlias = tuple[float, float, float, float, float, float]
"""``(a, b, c, d, e, f)`` takes ``(x, y)`` to ``(a x + b y + c, d x + e y + f)``."""

IDENTITY: Matrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class ImageTransform:
    """An original of ``size`` (width, height) pixels, and the ``matrix`` that takes an image's pixels into it."""

    size: tuple[int, int]
    matrix: Matrix = IDENTITY

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point of the image, in pixels of the original and within it."""
        a, b, c, d, e, f = self.matrix
        width, height = self.size
        return min(max(a * x + b * y + c, 0.0), float(width)), min(max(d * x + e * y + f, 0.0), float(height))

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        """The upright box around a box of the image, in pixels of the original and within it."""
        corners = [self.point(x, y) for x in (left, right) for y in (top, bottom)]
        across, down = zip(*corners, strict=True)
        return min(across), min(down), max(across), max(down)

    def within(self, matrix: Matrix) -> ImageTransform:
        """The frame of an image made from this one, whose pixels ``matrix`` takes into this one's."""
        a, b, c, d, e, f = self.matrix
        p, q, r, s, t, u = matrix
        return replace(
            self,
            matrix=(a * p + b * s, a * q + b * t, a * r + b * u + c, d * p + e * s, d * q + e * t, d * r + e * u + f),
        )
