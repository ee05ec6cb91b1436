"""Draws boxes, points and labels that are legible on any background.

Pillow's built-in font has few characters beyond English. Other labels use an installed font, or become a number that
refers to a legend.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from vlrun.media.image import Image
from vlrun.tasks.fonts import font_for, pillow_font
from vlrun.types.arguments import instance, tuple_of
from vlrun.types.mark import Mark

Colour: TypeAlias = tuple[int, int, int]
Area: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, the last two exclusive."""

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
COLOURS: tuple[Colour, ...] = (
    (213, 94, 0),
    (86, 180, 233),
    (240, 228, 66),
    (0, 158, 115),
    (204, 121, 167),
    (0, 114, 178),
    (230, 159, 0),
)
"""The Okabe-Ito palette for colour-blind readers, ordered so that neighbours differ most."""

MIN_FONT = 10
"""Pixels; smaller text in Pillow's font is not legible."""
MAX_CHARACTERS = 80
MAX_LABEL_SHARE = 0.25
"""Share of the image that labels may cover before the font shrinks."""


@dataclass(frozen=True)
class Drawn:
    """An image with marks.

    Attributes:
        image: The drawing.
        legend: ``legend[n - 1]`` is the label that is drawn as number ``n``, because no font has its characters.
        label_areas: Where the labels are drawn.
    """

    image: PILImage.Image
    legend: tuple[str, ...]
    label_areas: tuple[Area, ...]


@dataclass(frozen=True)
class _LineWidths:
    """Pixels of the coloured line, and of the black and white edges along it."""

    line: int
    edge: int

    @property
    def total(self) -> int:
        return self.line + 2 * self.edge


@dataclass(frozen=True)
class _Label:
    """Text on a coloured plate; ``target`` is the area of its mark with the outline."""

    text: str
    font: ImageFont.FreeTypeFont
    colour: Colour
    target: Area
    size: tuple[int, int]


def draw_marks(image: Image, marks: Sequence[Mark]) -> Drawn:
    """Draw marks on a copy of the image. Equal labels get equal colours; marks outside the image are moved inside."""
    instance(Image)("image", image)
    marks = tuple_of(instance(Mark), "marks")("marks", marks)
    pil_image = PILImage.fromarray(image.rgb).copy()
    side = math.sqrt(pil_image.width * pil_image.height)
    widths = _LineWidths(line=max(1, round(side / 320)), edge=max(1, round(side / 900)))
    # Draw equal marks once: a model in a loop repeats one hundreds of times.
    marks = list({(mark.label, mark.box, mark.point): mark for mark in marks if mark.box or mark.point}.values())
    names = [_visible_text(mark.label) for mark in marks]
    order = {name: index for index, name in enumerate(dict.fromkeys(names))}
    colours = [COLOURS[order[name] % len(COLOURS)] for name in names]
    areas = [_mark_area(mark, pil_image.size, widths) for mark in marks]
    draw = ImageDraw.Draw(pil_image)
    for index in sorted(range(len(marks)), key=lambda index: -_pixels(areas[index])):  # small ones on top
        outline = _box_outline if marks[index].box is not None else _point_outline
        outline(draw, areas[index], colours[index], widths)
    texts, legend = _label_texts(names)
    font_size = _font_size(texts, pil_image.size)
    by = widths.total
    outlined = [(left - by, top - by, right + by, bottom + by) for left, top, right, bottom in areas]
    labels = [
        _make_label(text, font_size, colour, target, pil_image.width)
        for text, colour, target in zip(texts, colours, outlined, strict=True)
        if text
    ]
    points = [area for mark, area in zip(marks, outlined, strict=True) if mark.box is None]
    placed = list(zip(labels, _place_labels(labels, points, pil_image.size), strict=True))
    for label, area in placed:
        _draw_leader(draw, label, area, widths)
    for label, area in placed:
        _draw_label(draw, label, area, widths)
    return Drawn(pil_image, legend, tuple(area for _, area in placed))


def _visible_text(label: str) -> str:
    """Return the label on one line, without controls, joiners, variation selectors and direction marks."""
    line = " ".join(label[:1000].split())
    return "".join(c for c in line if unicodedata.category(c)[0] != "C" and not "\ufe00" <= c <= "\ufe0f").strip()


def _mark_area(mark: Mark, size: tuple[int, int], widths: _LineWidths) -> Area:
    """Return the area of a box, or of the disc of a point, moved so that the outline fits into the image."""
    if mark.box is not None:
        left, top, right, bottom = mark.box
    else:
        x, y = mark.point or (0.0, 0.0)
        radius = 1.5 * widths.line
        left, top, right, bottom = x - radius, y - radius, x + radius, y + radius
    left, right = _clamp_span(left, right, size[0], widths.total)
    top, bottom = _clamp_span(top, bottom, size[1], widths.total)
    return left, top, right, bottom


def _clamp_span(low: float, high: float, limit: int, margin: int) -> tuple[int, int]:
    """Round a span to at least one pixel, ``margin`` away from 0 and ``limit`` if it fits."""
    first = max(0, min(max(round(low), margin), limit - margin - 1))
    return first, max(first + 1, min(round(high), limit - margin))


def _pixels(area: Area) -> int:
    return (area[2] - area[0]) * (area[3] - area[1])


def _grow(area: Area, by: int) -> Area:
    """Return the area with ``by`` more pixels on each side, in Pillow's form with inclusive ends."""
    return area[0] - by, area[1] - by, area[2] + by - 1, area[3] + by - 1


def _box_outline(draw: ImageDraw.ImageDraw, area: Area, colour: Colour, widths: _LineWidths) -> None:
    """Draw an outline around a box: black outside, white inside, so that one of them contrasts."""
    draw.rectangle(_grow(area, widths.total), outline=BLACK, width=widths.edge)
    draw.rectangle(_grow(area, widths.line + widths.edge), outline=colour, width=widths.line)
    draw.rectangle(_grow(area, widths.edge), outline=WHITE, width=widths.edge)


def _point_outline(draw: ImageDraw.ImageDraw, area: Area, colour: Colour, widths: _LineWidths) -> None:
    draw.ellipse(_grow(area, widths.total), fill=BLACK)
    draw.ellipse(_grow(area, widths.line + widths.edge), fill=WHITE)
    draw.ellipse(_grow(area, widths.line), fill=colour)


def _label_texts(labels: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the text to draw for each label, and the legend of those drawn as numbers."""
    legend: dict[str, str] = {}
    for label in labels:
        if label and label not in legend and font_for(label[:MAX_CHARACTERS], MIN_FONT) is None:
            legend[label] = str(len(legend) + 1)
    return [legend.get(label, label) for label in labels], tuple(legend)


def _font_size(texts: Sequence[str], size: tuple[int, int]) -> int:
    """Return the font size in pixels: relative to the image, smaller if there is much text."""
    surface = size[0] * size[1]
    preferred = math.sqrt(surface) / 34
    covered = sum(min(len(text), 24) for text in texts) * preferred**2  # a letter is half as wide as its plate is high
    return max(MIN_FONT, round(preferred * math.sqrt(min(1.0, MAX_LABEL_SHARE * surface / max(covered, 1)))))


def _make_label(text: str, font_size: int, colour: Colour, target: Area, width: int) -> _Label:
    """Measure a label, shortened to about 28 letters or the width of its box, whichever is wider."""
    font = font_for(text[:MAX_CHARACTERS], font_size) or pillow_font(font_size)
    pad = max(2, font_size // 4)
    max_width = min(width - 2 * pad, max(14 * font_size, target[2] - target[0]))
    shown = _shortened(text, font, max_width)
    ascent, descent = font.getmetrics()
    return _Label(shown, font, colour, target, (round(font.getlength(shown)) + 2 * pad, ascent + descent + pad))


def _shortened(text: str, font: ImageFont.FreeTypeFont, max_width: float) -> str:
    if len(text) <= MAX_CHARACTERS and font.getlength(text) <= max_width:
        return text
    lengths = range(2, min(len(text), MAX_CHARACTERS))
    fitting = bisect_right(lengths, max_width, key=lambda length: font.getlength(f"{text[:length]}…"))
    return f"{text[: 1 + fitting].rstrip()}…"


def _place_labels(labels: Sequence[_Label], taken: Sequence[Area], size: tuple[int, int]) -> Iterator[Area]:
    """Yield an area for each label: the nearest free one, or the one with the least overlap."""
    occupied = np.array([*taken, *[(0, 0, 0, 0)] * len(labels)], np.int64).reshape(-1, 4)
    for number, label in enumerate(labels, len(taken)):
        areas = _candidates(label, size)
        sides = np.minimum(areas[:, None, 2:], occupied[None, :number, 2:])
        sides = np.maximum(sides - np.maximum(areas[:, None, :2], occupied[None, :number, :2]), 0)
        best = int((sides[..., 0] * sides[..., 1]).sum(1).argmin())
        occupied[number] = areas[best]
        left, top, right, bottom = areas[best].tolist()
        yield left, top, right, bottom


def _candidates(label: _Label, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return candidate areas ``[n, 4]``, best first: above, below, in the corners, beside the mark, further away."""
    (left, top, right, bottom), (width, height) = label.target, label.size
    above, below = top - height, bottom
    spots = [(left, above), (left, below), (right - width, above), (right - width, below)]
    spots += [(left, top), (right - width, top), (left, bottom - height), (right - width, bottom - height)]
    spots += [(right, top), (left - width, top), (right, bottom - height), (left - width, bottom - height)]
    steps_across = [left + width * step // 2 for step in range(-5, 6)]
    steps_down = [top + height * step for step in range(-7, 8)] + [bottom + height * step for step in range(7)]
    far = [(x, y) for x in steps_across for y in steps_down]
    spots += sorted(far, key=lambda spot: abs(spot[0] - left) + abs(spot[1] - above))
    corners = np.clip(np.array(spots), 0, np.maximum(np.array(size) - label.size, 0))
    return np.concatenate([corners, corners + label.size], 1)


def _draw_leader(draw: ImageDraw.ImageDraw, label: _Label, area: Area, widths: _LineWidths) -> None:
    """Draw a line from a label to its mark if they do not touch."""
    gaps = [max(area[axis], label.target[axis]) - min(area[axis + 2], label.target[axis + 2]) for axis in (0, 1)]
    if max(gaps) <= widths.total:
        return
    centre = (area[0] + area[2]) / 2, (area[1] + area[3]) / 2
    nearest = tuple(min(max(centre[axis], label.target[axis]), label.target[axis + 2] - 1) for axis in (0, 1))
    draw.line([centre, nearest], fill=ink_on(label.colour), width=widths.total)
    draw.line([centre, nearest], fill=label.colour, width=widths.line)


def _draw_label(draw: ImageDraw.ImageDraw, label: _Label, area: Area, widths: _LineWidths) -> None:
    ink = ink_on(label.colour)
    draw.rectangle(_grow(area, 0), fill=label.colour, outline=ink, width=widths.edge)
    left = area[0] + (label.size[0] - round(label.font.getlength(label.text))) // 2
    top = area[1] + (label.size[1] - sum(label.font.getmetrics())) // 2
    draw.text((left, top), label.text, fill=ink, font=label.font)  # whole pixels: fractions blur small text


def ink_on(colour: Colour) -> Colour:
    """Return black or white, whichever has more contrast to ``colour``."""
    light = luminance(colour)
    return BLACK if (light + 0.05) ** 2 > 0.05 * 1.05 else WHITE


def luminance(colour: Colour) -> float:
    """Return the relative luminance 0..1 of an sRGB colour (WCAG 2)."""
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
