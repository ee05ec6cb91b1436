"""Boxes and points in an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vlrun.errors import OptionError
from vlrun.types.arguments import check_fields, number, optional, text, tuple_of


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

    def __post_init__(self) -> None:
        numbers = tuple_of(number, "numbers")
        check_fields(self, {"label": text, "box": optional(numbers), "point": optional(numbers)})
        if len(self.box or range(4)) != 4 or len(self.point or range(2)) != 2:
            raise OptionError("box must have four numbers, and point two")
        if not all(map(math.isfinite, (*(self.box or ()), *(self.point or ())))):
            raise OptionError("box and point must have finite numbers")
