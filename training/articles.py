"""The shelf of the tutorials: 6 bottles, one of them half hidden, 9 bags in three colours, and 5 boxes in two layers.

It is drawn like the scenes of training, but with two things that these never have: an item half behind another, and
boxes that stand on boxes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from training.rendering import COLOURS, draw_item, vary
from training.scenes import Item

SIDE = 960
BOARD = SIDE // 3
"""Side of the image, and height of each of its three boards, in pixels."""
PLANK = 18
WALL, WOOD, POST = (226, 224, 219), (104, 88, 72), (150, 150, 154)
SEED = 20261122

TRUTH: Mapping[str, int] = {"bottle": 6, "bag": 9, "box": 5}
BAG_COLOURS = ("red",) * 3 + ("yellow",) * 3 + ("blue",) * 3


def articles_shelf() -> tuple[Image.Image, tuple[Item, ...]]:
    """Draw the image; its items have boxes in 0..1."""
    rng = np.random.default_rng(SEED)
    image = Image.new("RGB", (SIDE, SIDE), WALL)
    draw = ImageDraw.Draw(image)
    for board in range(1, 4):
        draw.rectangle((0, board * BOARD - PLANK, SIDE, board * BOARD), fill=WOOD)
    items = [*_bottles(), *_bags(), *_boxes()]
    for kind, colour, box in items:
        draw_item(draw, kind, vary(COLOURS[colour], rng), box)
    left, _, right, bottom = items[5][2]
    draw.rectangle(((left + right) / 2, BOARD * 0.08, right + 34, bottom), fill=POST)  # half of the last bottle
    return image, tuple(Item(kind, colour, _relative(box)) for kind, colour, box in items)


def _bottles() -> list[tuple[str, str, tuple[float, float, float, float]]]:
    floor = BOARD - PLANK
    return [("bottle", "green", (60 + n * 145, floor - 250, 60 + n * 145 + 96, floor)) for n in range(6)]


def _bags() -> list[tuple[str, str, tuple[float, float, float, float]]]:
    floor = 2 * BOARD - PLANK
    return [("bag", c, (20 + n * 104, floor - 120, 20 + n * 104 + 88, floor)) for n, c in enumerate(BAG_COLOURS)]


def _boxes() -> list[tuple[str, str, tuple[float, float, float, float]]]:
    floor, side = 3 * BOARD - PLANK, 130
    below = [("box", "orange", (180 + n * 200, floor - side, 180 + n * 200 + side, floor)) for n in range(3)]
    above = [("box", "orange", (250 + n * 200, floor - 2 * side, 250 + n * 200 + side, floor - side)) for n in range(2)]
    return [*below, *above]


def _relative(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    return box[0] / SIDE, box[1] / SIDE, box[2] / SIDE, box[3] / SIDE
