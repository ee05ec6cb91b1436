"""Boxes, points and their labels drawn on an image so that they can be read on any background.

Knows pixels; does not know where the marks come from. Pillow's own font has little more than English,
so other labels are written in an installed font that has all their characters, or as a number of a legend.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from vlrun.media.image import Image
from vlrun.tasks.fonts import font_for, own_font

Colour: TypeAlias = tuple[int, int, int]
Area: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels, the last two exclusive."""

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
"""The palette of Okabe and Ito, which the colour-blind tell apart, neighbours far from each other."""

LEAST_FONT = 10
"""Pixels; smaller letters of Pillow's font cannot be read."""
MOST_CHARACTERS = 80
CROWD = 0.25
"""Labels get smaller before they cover more of the image than this."""


class Drawable(Protocol):
    """A label with a box (left, top, right, bottom) or a point (x, y), in pixels of the image to draw on."""

    @property
    def label(self) -> str:
        """In any language; empty for none."""

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """None for a point."""

    @property
    def point(self) -> tuple[float, float] | None:
        """None for a box; what has a box is drawn as one."""


@dataclass(frozen=True)
class Drawn:
    """The image with its marks. ``legend[n - 1]`` is the label that stands as number ``n``, for want of a font."""

    image: PILImage.Image
    legend: tuple[str, ...]


@dataclass(frozen=True)
class _Pen:
    """Sizes in pixels: the coloured line, the black and the white line along it, and a plate's rim."""

    line: int
    edge: int

    @property
    def width(self) -> int:
        return self.line + 2 * self.edge


@dataclass(frozen=True)
class _Plate:
    """What is written for a mark, and the area with outline that it belongs to."""

    text: str
    font: ImageFont.FreeTypeFont
    colour: Colour
    target: Area
    size: tuple[int, int]


def draw_marks(image: Image, marks: Sequence[Drawable]) -> Drawn:
    """The image with ``marks`` drawn on it; equal labels have equal colours. Marks beyond its borders move inside."""
    pil_image = PILImage.fromarray(image.rgb).copy()
    side = math.sqrt(pil_image.width * pil_image.height)
    pen = _Pen(line=max(1, round(side / 320)), edge=max(1, round(side / 900)))
    marks = _different(marks)
    labels = [_plain(mark.label) for mark in marks]
    order = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    colours = [COLOURS[order[label] % len(COLOURS)] for label in labels]
    targets = [_target(mark, pil_image.size, pen) for mark in marks]
    draw = ImageDraw.Draw(pil_image)
    for place in sorted(range(len(marks)), key=lambda place: -_surface(targets[place])):  # small ones stay visible
        outline = _box_outline if marks[place].box is not None else _point_outline
        outline(draw, targets[place], colours[place], pen)
    texts, legend = _texts(labels)
    font_size = _font_size(texts, pil_image.size)
    by = pen.width
    outsides = [(left - by, top - by, right + by, bottom + by) for left, top, right, bottom in targets]
    plates = [
        _plate(text, font_size, colour, target, pil_image.width)
        for text, colour, target in zip(texts, colours, outsides, strict=True)
        if text
    ]
    points = [outside for mark, outside in zip(marks, outsides, strict=True) if mark.box is None]
    arranged = list(zip(plates, _arranged(plates, points, pil_image.size), strict=True))
    for plate, area in arranged:
        _draw_leader(draw, plate, area, pen)
    for plate, area in arranged:
        _draw_plate(draw, plate, area, pen)
    return Drawn(pil_image, legend)


def _different(marks: Sequence[Drawable]) -> list[Drawable]:
    """Marks that have a place, each once: a model that repeats itself says the same hundreds of times."""
    placed = {(mark.label, mark.box, mark.point): mark for mark in marks if mark.box or mark.point}
    return list(placed.values())


def _plain(label: str) -> str:
    """One line without characters that show nothing: controls, joiners, variants, directions."""
    shown = (
        c
        for c in " ".join(label[:1000].split())
        if unicodedata.category(c)[0] != "C" and not 0xFE00 <= ord(c) <= 0xFE0F
    )
    return "".join(shown).strip()


def _target(mark: Drawable, size: tuple[int, int], pen: _Pen) -> Area:
    """The pixels of a box, or of a point's disc, with room for the outline around them inside the image."""
    if mark.box is not None:
        left, top, right, bottom = mark.box
    else:
        x, y = mark.point or (0.0, 0.0)
        radius = 1.5 * pen.line
        left, top, right, bottom = x - radius, y - radius, x + radius, y + radius
    (left, right), (top, bottom) = (
        _inside(low, high, limit, pen.width) for low, high, limit in ((left, right, size[0]), (top, bottom, size[1]))
    )
    return left, top, right, bottom


def _inside(low: float, high: float, limit: int, margin: int) -> tuple[int, int]:
    """Whole pixels from ``low`` to ``high``, at least one, ``margin`` away from 0 and ``limit`` if there is room."""
    first = max(0, min(max(round(low), margin), limit - margin - 1))
    return first, max(first + 1, min(round(high), limit - margin))


def _surface(area: Area) -> int:
    return (area[2] - area[0]) * (area[3] - area[1])


def _grown(area: Area, by: int) -> Area:
    """The area with ``by`` pixels more on each side, as Pillow wants it: the last pixel is part of it."""
    return area[0] - by, area[1] - by, area[2] + by - 1, area[3] + by - 1


def _box_outline(draw: ImageDraw.ImageDraw, area: Area, colour: Colour, pen: _Pen) -> None:
    """Around the box, so that nothing in it is covered: black outside, white inside, so that one of them stands out."""
    draw.rectangle(_grown(area, pen.width), outline=BLACK, width=pen.edge)
    draw.rectangle(_grown(area, pen.line + pen.edge), outline=colour, width=pen.line)
    draw.rectangle(_grown(area, pen.edge), outline=WHITE, width=pen.edge)


def _point_outline(draw: ImageDraw.ImageDraw, area: Area, colour: Colour, pen: _Pen) -> None:
    draw.ellipse(_grown(area, pen.width), fill=BLACK)
    draw.ellipse(_grown(area, pen.line + pen.edge), fill=WHITE)
    draw.ellipse(_grown(area, pen.line), fill=colour)


def _texts(labels: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """What to write for each label, and the labels that are only numbers there."""
    legend: dict[str, str] = {}
    for label in labels:
        if label and label not in legend and font_for(label[:MOST_CHARACTERS], LEAST_FONT) is None:
            legend[label] = str(len(legend) + 1)
    return [legend.get(label, label) for label in labels], tuple(legend)


def _font_size(texts: Sequence[str], size: tuple[int, int]) -> int:
    """Pixels: by the image, and smaller where there is much to write."""
    surface = size[0] * size[1]
    wanted = math.sqrt(surface) / 34
    written = sum(min(len(text), 24) for text in texts) * wanted**2  # a letter is half as wide as its plate is high
    return max(LEAST_FONT, round(wanted * math.sqrt(min(1.0, CROWD * surface / max(written, 1)))))


def _plate(text: str, font_size: int, colour: Colour, target: Area, width: int) -> _Plate:
    """A label with its room, shortened to about 28 letters, or to its box if that is wider."""
    font = font_for(text[:MOST_CHARACTERS], font_size) or own_font(font_size)
    pad = max(2, font_size // 4)
    room = min(width - 2 * pad, max(14 * font_size, target[2] - target[0]))
    shown = _shortened(text, font, room)
    ascent, descent = font.getmetrics()
    return _Plate(shown, font, colour, target, (round(font.getlength(shown)) + 2 * pad, ascent + descent + pad))


def _shortened(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    if len(text) <= MOST_CHARACTERS and font.getlength(text) <= room:
        return text
    fewest, most = 1, min(len(text), MOST_CHARACTERS) - 1
    while fewest < most:
        middle = (fewest + most + 1) // 2
        fewest, most = (middle, most) if font.getlength(f"{text[:middle]}…") <= room else (fewest, middle - 1)
    return f"{text[:fewest].rstrip()}…"


def _arranged(plates: Sequence[_Plate], taken: Sequence[Area], size: tuple[int, int]) -> Iterator[Area]:
    """A place for each plate within the image: the nearest to its target that is free, or the least covered one."""
    occupied = np.array([*taken, *[(0, 0, 0, 0)] * len(plates)], np.int64).reshape(-1, 4)
    for number, plate in enumerate(plates, len(taken)):
        areas = _candidates(plate, size)
        sides = np.minimum(areas[:, None, 2:], occupied[None, :number, 2:])
        sides = np.maximum(sides - np.maximum(areas[:, None, :2], occupied[None, :number, :2]), 0)
        best = int((sides[..., 0] * sides[..., 1]).sum(1).argmin())
        occupied[number] = areas[best]
        left, top, right, bottom = areas[best].tolist()
        yield left, top, right, bottom


def _candidates(plate: _Plate, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Areas ``[n, 4]``, the best first: above and below the target, in its corners, beside it, and further away."""
    (left, top, right, bottom), (width, height) = plate.target, plate.size
    above, below = top - height, bottom
    spots = [(left, above), (left, below), (right - width, above), (right - width, below)]
    spots += [(left, top), (right - width, top), (left, bottom - height), (right - width, bottom - height)]
    spots += [(right, top), (left - width, top), (right, bottom - height), (left - width, bottom - height)]
    steps_across = [left + width * step // 2 for step in range(-5, 6)]
    steps_down = [top + height * step for step in range(-7, 8)] + [bottom + height * step for step in range(7)]
    far = [(x, y) for x in steps_across for y in steps_down]
    spots += sorted(far, key=lambda spot: abs(spot[0] - left) + abs(spot[1] - above))
    corners = np.clip(np.array(spots), 0, np.maximum(np.array(size) - plate.size, 0))
    return np.concatenate([corners, corners + plate.size], 1)


def _draw_leader(draw: ImageDraw.ImageDraw, plate: _Plate, area: Area, pen: _Pen) -> None:
    """A line from a plate to its target, if the plate had to move away from it."""
    gaps = [max(area[axis], plate.target[axis]) - min(area[axis + 2], plate.target[axis + 2]) for axis in (0, 1)]
    if max(gaps) <= pen.width:
        return
    centre = (area[0] + area[2]) / 2, (area[1] + area[3]) / 2
    nearest = tuple(min(max(centre[axis], plate.target[axis]), plate.target[axis + 2] - 1) for axis in (0, 1))
    draw.line([centre, nearest], fill=ink_on(plate.colour), width=pen.width)
    draw.line([centre, nearest], fill=plate.colour, width=pen.line)


def _draw_plate(draw: ImageDraw.ImageDraw, plate: _Plate, area: Area, pen: _Pen) -> None:
    ink = ink_on(plate.colour)
    draw.rectangle(_grown(area, 0), fill=plate.colour, outline=ink, width=pen.edge)
    left = area[0] + (plate.size[0] - round(plate.font.getlength(plate.text))) // 2
    top = area[1] + (plate.size[1] - sum(plate.font.getmetrics())) // 2
    draw.text((left, top), plate.text, fill=ink, font=plate.font)  # on whole pixels: small letters blur between them


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on a plate of this ``colour``."""
    light = luminance(colour)
    return BLACK if (light + 0.05) ** 2 > 0.05 * 1.05 else WHITE


def luminance(colour: Colour) -> float:
    """Relative luminance 0..1 of an sRGB colour, as WCAG 2 defines it."""
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
