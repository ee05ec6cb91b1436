"""Draws single items and shapes with Pillow, and defines their colours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from PIL import ImageDraw

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom."""

RGB: TypeAlias = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (214, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 210),
    "yellow": (240, 210, 40),
    "orange": (245, 130, 20),
    "purple": (140, 50, 170),
}
EASY_COLOURS: dict[str, RGB] = {
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
    "brown": (165, 42, 42),
}


def draw_item(draw: ImageDraw.ImageDraw, kind: str, colour: RGB, box: Box) -> None:
    """Draw one item or shape into ``box`` (pixels)."""
    RENDERERS[kind](draw, colour, box)


def grey(rng: np.random.Generator, low: int, high: int) -> RGB:
    """Draw a greyish colour with a level of about ``low`` to ``high``."""
    level = rng.integers(low, high)
    red, green, blue = np.clip(level + rng.integers(-14, 15, 3), 0, 255)
    return int(red), int(green), int(blue)


def vary(colour: RGB, rng: np.random.Generator) -> RGB:
    """Vary a colour slightly, as between copies of an item."""
    red, green, blue = np.clip(np.array(colour) + rng.integers(-12, 13, 3), 0, 255)
    return int(red), int(green), int(blue)


def _bottle(draw: ImageDraw.ImageDraw, colour: RGB, box: Box) -> None:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    shoulder = top + height * 0.36
    draw.rounded_rectangle((left, shoulder, right, bottom), width * 0.2, fill=colour)
    draw.rectangle(
        (left + width * 0.33, top + height * 0.08, right - width * 0.33, shoulder + height * 0.1), fill=colour
    )
    draw.rectangle((left + width * 0.28, top, right - width * 0.28, top + height * 0.09), fill=_shade(colour, 0.45))
    draw.rectangle((left, top + height * 0.56, right, top + height * 0.8), fill=_tint(colour, 0.72))


def _can(draw: ImageDraw.ImageDraw, colour: RGB, box: Box) -> None:
    left, top, right, bottom = box
    height = bottom - top
    draw.rectangle((left, top + height * 0.08, right, bottom - height * 0.08), fill=colour)
    draw.ellipse((left, bottom - height * 0.16, right, bottom), fill=_shade(colour, 0.6))
    draw.ellipse((left, top, right, top + height * 0.16), fill=(200, 200, 205))
    draw.rectangle((left, top + height * 0.4, right, top + height * 0.5), fill=_tint(colour, 0.6))


def _carton(draw: ImageDraw.ImageDraw, colour: RGB, box: Box) -> None:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    line = max(1, round(width * 0.05))
    draw.rectangle(box, fill=colour, outline=_shade(colour, 0.5), width=line)
    draw.rectangle((left + width * 0.42, top, right - width * 0.42, bottom), fill=_shade(colour, 0.65))
    draw.rectangle((left, top + height * 0.24, right, top + height * 0.3), fill=_shade(colour, 0.5))


def _bag(draw: ImageDraw.ImageDraw, colour: RGB, box: Box) -> None:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    line = max(2, round(width * 0.08))
    draw.arc((left + width * 0.25, top, right - width * 0.25, top + height * 0.5), 180, 360, _shade(colour, 0.5), line)
    corners = [(left + width * 0.12, top + height * 0.26), (right - width * 0.12, top + height * 0.26)]
    draw.polygon([*corners, (right, bottom), (left, bottom)], fill=colour)


def _ellipse(draw: ImageDraw.ImageDraw, colour: RGB, box: Box) -> None:
    draw.ellipse(box, fill=colour)


def _rectangle(draw: ImageDraw.ImageDraw, colour: RGB, box: Box) -> None:
    draw.rectangle(box, fill=colour)


def _triangle(draw: ImageDraw.ImageDraw, colour: RGB, box: Box) -> None:
    left, top, right, bottom = box
    draw.polygon([(left, bottom), ((left + right) / 2, top), (right, bottom)], fill=colour)


def _shade(colour: RGB, factor: float) -> RGB:
    return int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor)


def _tint(colour: RGB, factor: float) -> RGB:
    red, green, blue = (int(255 - (255 - channel) * (1 - factor)) for channel in colour)
    return red, green, blue


RENDERERS: Mapping[str, Callable[[ImageDraw.ImageDraw, RGB, Box], None]] = {
    "bottle": _bottle,
    "can": _can,
    "box": _carton,
    "bag": _bag,
    "circle": _ellipse,
    "rectangle": _rectangle,
    "triangle": _triangle,
}
