"""Boxes and points in an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from vlrun.errors import OptionError
from vlrun.types.arguments import check_fields, number, optional, text, tuple_of, whole_number


@dataclass(frozen=True)
class Mark:
    """A labelled box or point in pixels of the original image.

    Attributes:
        label: One line without control characters; may be empty.
        box: Left, top, right, bottom; None for a point.
        point: x, y; None for a box.
        span: Begin and end of what gives it in the text of the answer, in characters; None if unknown. Marks that
            differ in nothing else are equal.
    """

    label: str
    box: tuple[float, float, float, float] | None
    point: tuple[float, float] | None
    span: tuple[int, int] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        numbers = tuple_of(number, "numbers")
        span = optional(tuple_of(whole_number, "whole numbers"))
        check_fields(self, {"label": text, "box": optional(numbers), "point": optional(numbers), "span": span})
        if len(self.box or range(4)) != 4 or len(self.point or range(2)) != 2 or len(self.span or range(2)) != 2:
            raise OptionError("box must have four numbers, point and span two")
        if not all(map(math.isfinite, (*(self.box or ()), *(self.point or ())))):
            raise OptionError("box and point must have finite numbers")
