"""Marks drawn on images, checked in pixels."""

from __future__ import annotations

import numpy as np
import pytest

from vlrun.media.image import Image, open_image
from vlrun.tasks.drawing import COLOURS, Area, draw_marks, ink_on, luminance
from vlrun.types.mark import Mark


def plain(width: int, height: int, colour: tuple[int, int, int] = (128, 128, 128)) -> Image:
    return open_image(np.full((height, width, 3), colour, np.uint8))


def noise(width: int, height: int) -> Image:
    return open_image(np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8))


def box(label: str, *edges: float) -> Mark:
    return Mark(label, (edges[0], edges[1], edges[2], edges[3]), None)


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def label_areas(marks: list[Mark], size: tuple[int, int]) -> tuple[Area, ...]:
    return draw_marks(plain(*size), marks).label_areas


BACKGROUNDS = [
    plain(320, 240, (255, 255, 255)),
    plain(320, 240, (0, 0, 0)),
    plain(320, 240, COLOURS[0]),
    plain(320, 240, (255, 0, 0)),
    noise(320, 240),
]


@pytest.mark.parametrize("background", BACKGROUNDS, ids=["white", "black", "same", "red", "noise"])
def test_lines_and_labels_contrast_with_any_background(background: Image) -> None:
    """Lines have black and white edges; labels have an opaque background."""
    can = box("can", 60, 80, 260, 200)
    ((left, top, right, bottom),) = label_areas([can], background.size)
    drawn = np.asarray(draw_marks(background, [can]).image)
    across = [tuple(pixel) for pixel in drawn[140, 50:70].tolist()]
    assert {(0, 0, 0), (255, 255, 255), COLOURS[0]} <= set(across)
    label = drawn[top:bottom, left:right]
    on_white = np.asarray(draw_marks(BACKGROUNDS[0], [can]).image)[top:bottom, left:right]
    np.testing.assert_array_equal(label, on_white)  # no background shows through it
    ink = ink_on(COLOURS[0])
    assert (label[[0, -1]] == ink).all()
    written = {(int(r), int(g), int(b)) for r, g, b in label[2:-2, 2:-2].reshape(-1, 3)}
    assert sum(contrast(pixel, COLOURS[0]) > 4 for pixel in written) >= 4
    assert (label == COLOURS[0]).all(-1).mean() > 0.3


def test_text_reaches_the_wcag_contrast_on_every_colour() -> None:
    """WCAG requires a contrast of 4.5."""
    colours = [*COLOURS, *[(r, g, b) for r in range(0, 256, 51) for g in range(0, 256, 51) for b in range(0, 256, 51)]]
    for colour in colours:
        ink = ink_on(colour)
        other = (255 - ink[0], 255 - ink[1], 255 - ink[2])
        assert contrast(ink, colour) >= max(4.5, contrast(other, colour))


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (64, 64), (3000, 20), (640, 480), (2000, 1500)])
def test_marks_are_drawn_on_images_of_any_size(size: tuple[int, int]) -> None:
    """Covers empty boxes, boxes on or beyond the border, and images smaller than a line."""
    width, height = size
    marks = [
        box("all", 0, 0, width, height),
        box("none", 5, 5, 5, 5),
        box("outside", -50, -50, width + 50, height * 2),
        box("corner", width, height, width, height),
        Mark("tip", None, (width, 0)),
    ]
    for mark in marks:
        drawn = draw_marks(plain(*size), [mark]).image
        assert drawn.size == size
        assert (np.asarray(drawn) != 128).any()
    assert draw_marks(plain(*size), [Mark("nowhere", None, None)]).image.getpixel((0, 0)) == (128, 128, 128)


def test_the_input_image_is_unchanged() -> None:
    """Guards the cached image: drawing on it would change the next answer."""
    image = plain(100, 100)
    draw_marks(image, [box("can", 10, 10, 90, 90)])
    assert (image.rgb == 128).all()


def overlaps(one: Area, other: Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_labels_neither_overlap_nor_leave_the_image() -> None:
    same = [box(f"label {n}", 300, 200, 340, 240) for n in range(8)]
    border = [box("left", 0, 0, 20, 20), box("right", 600, 0, 640, 20), box("below", 620, 470, 640, 480)]
    points = [Mark(f"tip {n}", None, (40.0 + 12 * n, 400.0)) for n in range(5)]
    areas = label_areas(same + border + points, (640, 480))
    assert len(areas) == 16
    for number, area in enumerate(areas):
        assert area[0] >= 0 <= area[1]
        assert area[2] <= 640
        assert area[3] <= 480
        assert not any(overlaps(area, other) for other in areas[:number])


def test_equal_marks_get_one_label() -> None:
    """A model in a loop repeats one mark."""
    assert len(label_areas([box("can", 300, 200, 340, 240)] * 50, (640, 480))) == 1


def test_labels_of_two_hundred_boxes_do_not_overlap() -> None:
    """Labels get smaller before they overlap."""
    grid = [(10.0 + 60 * (n % 10), 10.0 + 30 * (n // 10)) for n in range(200)]
    areas = label_areas([box(f"item {n}", x, y, x + 45, y + 25) for n, (x, y) in enumerate(grid)], (640, 640))
    assert not any(overlaps(area, other) for number, area in enumerate(areas) for other in areas[:number])


def test_long_labels_are_cut_and_control_characters_dropped() -> None:
    (area,) = label_areas([box("x" * 100_000, 10, 100, 50, 150)], (640, 480))
    assert area[2] - area[0] < 330
    assert label_areas([box("\x00\n\u200d\u202e\ufe0f\ud800 ", 10, 100, 50, 150)], (640, 480)) == ()
    marks = [box(label, 60, 80, 260, 200) for label in ("a\x07b", "ab")]
    first, second = (draw_marks(plain(320, 240), [mark]).image.tobytes() for mark in marks)
    assert first == second
