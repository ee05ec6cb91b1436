"""What stands at each patch of a drawn scene: the truth behind the auxiliary loss.

Knows scenes and grids; knows neither tokens nor the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.painting import COLOURS, EASY_COLOURS, Box
from training.questions import Look
from training.scenes import GLYPHS, KINDS, SHAPES, Scene
from vlrun.vision.grid import Grid

THINGS = ("", *KINDS, *SHAPES)
PALETTE = ("", *dict.fromkeys([*COLOURS, *EASY_COLOURS]))
CHARACTERS = ("", *GLYPHS)
PLACES = 7
"""Of six characters at most, and 0 where there is none."""
UNKNOWN = -100
"""Label of patches of which nothing is known (easy-VQA says no places); cross entropy skips it."""


@dataclass(frozen=True)
class PatchLabels:
    """What stands at each patch, in merge-block order: indices into THINGS, PALETTE and CHARACTERS, the place of a
    character in its text (from 1), the edges of the thing in 0..1 ``[N, 4]``, and the number of things whose middle
    lies in each visual token ``[N / 4]``.
    """

    thing: npt.NDArray[np.int64]
    colour: npt.NDArray[np.int64]
    character: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    box: npt.NDArray[np.float32]
    middles: npt.NDArray[np.int64]


def patch_labels(scene: Scene, grid: Grid) -> PatchLabels:
    """Labels of every patch, for the auxiliary loss. A patch belongs to the thing that covers its middle."""
    x, y = patch_middles(grid)
    nothing = UNKNOWN if scene.domain == "easy" else 0
    thing, colour, character, place = (np.full(grid.patches, nothing) for _ in range(4))
    box = np.zeros((grid.patches, 4), np.float32)
    middles = np.full(grid.tokens, nothing)
    for item in scene.items:
        inside = _inside(item.box, x, y)
        thing[inside], colour[inside] = THINGS.index(item.kind), PALETTE.index(item.colour)
        box[inside] = item.box
        middles[_token_at(item.box, grid)] += 1
    for number, glyph in enumerate(scene.glyphs, 1):
        inside = _inside(glyph.box, x, y)
        character[inside], place[inside] = CHARACTERS.index(glyph.character), number
        box[inside] = glyph.box
        middles[_token_at(glyph.box, grid)] += 1
    return PatchLabels(thing, colour, character, place, box, middles.clip(max=2))


def look_target(look: Look, grid: Grid, images: int = 1) -> npt.NDArray[np.float32]:
    """How to share attention between the first token of the prompt and the visual tokens, ``[1 + images * tokens]``.

    Of a thing looked at, each token gets as much as it shows of it. Things that are counted get equal shares at their
    middles, and as much goes to the first token: the more there are, the less it gets, which tells their number.
    """
    rows, columns = grid.height // grid.merge, grid.width // grid.merge
    shares = np.zeros(1 + images * grid.tokens, np.float32)
    shares[0] = float(look.counted)
    for place, box in enumerate(look.boxes):
        first = 1 + grid.tokens * (look.images[place] if look.images else 0)
        if look.counted:
            shares[first + _token_at(box, grid)] += 1
        else:
            left, top, right, bottom = box
            covered = np.outer(_overlap(top, bottom, rows), _overlap(left, right, columns)).ravel()
            shares[first : first + grid.tokens] += covered
    return shares / shares.sum()


def stack_labels(labels: Sequence[PatchLabels]) -> PatchLabels:
    """The labels of several images, each field with a new first axis."""
    return PatchLabels(*(np.stack(field) for field in zip(*(_fields(label) for label in labels), strict=True)))


def patch_middles(grid: Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Middle of each patch in 0..1, in merge-block order."""
    m = grid.merge
    order = np.arange(grid.patches).reshape(grid.height // m, m, grid.width // m, m).transpose(0, 2, 1, 3).ravel()
    return (order % grid.width + 0.5) / grid.width, (order // grid.width + 0.5) / grid.height


def _inside(box: Box, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
    return inside


def _token_at(box: Box, grid: Grid) -> int:
    rows, columns = grid.height // grid.merge, grid.width // grid.merge
    column = min(int((box[0] + box[2]) / 2 * columns), columns - 1)
    return min(int((box[1] + box[3]) / 2 * rows), rows - 1) * columns + column


def _overlap(low: float, high: float, cells: int) -> npt.NDArray[np.float64]:
    """How much of ``low .. high`` lies in each of ``cells`` equal parts of 0..1."""
    edges = np.arange(cells + 1) / cells
    covered: npt.NDArray[np.float64] = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
    return covered.clip(min=0)


def _fields(labels: PatchLabels) -> tuple[npt.NDArray[np.generic], ...]:
    return labels.thing, labels.colour, labels.character, labels.place, labels.box, labels.middles
