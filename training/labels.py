"""Labels for every patch of a drawn scene and for every token of a clip, and attention targets for every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.clips import CHANGES, Actor, Clip, stamp
from training.qa import AttentionTarget
from training.rendering import COLOURS, EASY_COLOURS, Box
from training.scenes import GLYPHS, KINDS, SHAPES, Scene
from vlrun.vision.grid import Grid

THINGS = ("", *KINDS, *SHAPES)
PALETTE = ("", *dict.fromkeys([*COLOURS, *EASY_COLOURS]))
CHARACTERS = ("", *GLYPHS)
PLACES = 7
"""Places of a character in its text, 1 to 6, and 0 for none."""
UNKNOWN = -100
"""Label of patches without ground truth (easy-VQA has no positions); cross entropy skips it."""


@dataclass(frozen=True)
class PatchLabels:
    """Labels of N patches in merge-block order.

    ``thing``, ``colour`` and ``character`` are indices into THINGS, PALETTE and CHARACTERS; ``place`` is the place of a
    character in its text, from 1; ``box`` has the edges of the item in 0..1 ``[N, 4]``; ``middles`` is the number of
    items centred in each visual token ``[N / 4]``.
    """

    thing: npt.NDArray[np.int64]
    colour: npt.NDArray[np.int64]
    character: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    box: npt.NDArray[np.float32]
    middles: npt.NDArray[np.int64]

    def every_second(self, first: int) -> PatchLabels:
        """The labels of every second image, such as those of the first frames of pairs."""
        part = slice(first, None, 2)
        return PatchLabels(
            thing=self.thing[part],
            colour=self.colour[part],
            character=self.character[part],
            place=self.place[part],
            box=self.box[part],
            middles=self.middles[part],
        )


def patch_labels(scene: Scene, grid: Grid) -> PatchLabels:
    """Labels of every patch of a scene. A patch belongs to the item that covers its centre."""
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


@dataclass(frozen=True)
class TimelineLabels:
    """What happens in P frame pairs.

    ``digits``: tens, ones and tenths of each pair's time ``[P, 3]``; ``changes``: what happens to the item at each
    visual token of B rows ``[B, P * tokens]``: 0 for nothing, else the place in CHANGES, from 1.
    """

    digits: npt.NDArray[np.int64]
    changes: npt.NDArray[np.int64]


MIN_COVERED = 0.2
"""Part of a visual token's area that an item must cover to label it; the token at its centre always has its label."""


def timeline_labels(clips: Sequence[Clip], grid: Grid) -> TimelineLabels:
    """Labels of clips with the same times."""
    times = [stamp(seconds).replace(".", "").zfill(3) for seconds in clips[0].timing.pairs]
    changes = np.zeros((len(clips), len(times), grid.tokens), np.int64)
    for row, clip in enumerate(clips):
        for actor in clip.by_change.values():
            for pair in actor.moving_pairs:
                changes[row, pair, _tokens_of(actor, pair, grid)] = 1 + list(CHANGES).index(actor.change)
    return TimelineLabels(np.array([[int(digit) for digit in time] for time in times]), changes.reshape(len(clips), -1))


def _tokens_of(actor: Actor, pair: int, grid: Grid) -> npt.NDArray[np.bool_]:
    """The visual tokens that show an item in a frame pair."""
    rows, columns = grid.height // grid.merge, grid.width // grid.merge
    shown = np.zeros(grid.tokens, np.bool_)
    for left, top, right, bottom in actor.boxes(pair):
        covered = np.outer(_overlap(top, bottom, rows), _overlap(left, right, columns)).ravel()
        shown |= covered * grid.tokens >= MIN_COVERED
        shown[_token_at((left, top, right, bottom), grid)] = True
    return shown


def attention_weights(target: AttentionTarget, grid: Grid, images: int = 1) -> npt.NDArray[np.float32]:
    """Target distribution of attention over the first token of the prompt and all visual tokens.

    An item's share is spread over the tokens that show it, by area. Counted items get equal shares, each on the token
    at its centre, and the first token gets one more share, so that its weight encodes the number of items.

    Returns:
        Weights ``[1 + images * tokens]`` with a sum of 1.
    """
    rows, columns = grid.height // grid.merge, grid.width // grid.merge
    shares = np.zeros(1 + images * grid.tokens, np.float32)
    shares[0] = float(target.counted)
    for place, box in enumerate(target.boxes):
        first = 1 + grid.tokens * (target.images[place] if target.images else 0)
        if target.counted:
            shares[first + _token_at(box, grid)] += 1
        else:
            left, top, right, bottom = box
            covered = np.outer(_overlap(top, bottom, rows), _overlap(left, right, columns)).ravel()
            shares[first : first + grid.tokens] += covered
    return shares / shares.sum()


def stack_labels(labels: Sequence[PatchLabels]) -> PatchLabels:
    """Stack the labels of several images on a new first axis."""
    return PatchLabels(*(np.stack(field) for field in zip(*(_fields(label) for label in labels), strict=True)))


def patch_middles(grid: Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centre of each patch in 0..1, in merge-block order."""
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
    """Length of ``low .. high`` in each of ``cells`` equal parts of 0..1."""
    edges = np.arange(cells + 1) / cells
    covered: npt.NDArray[np.float64] = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
    return covered.clip(min=0)


def _fields(labels: PatchLabels) -> tuple[npt.NDArray[np.generic], ...]:
    return labels.thing, labels.colour, labels.character, labels.place, labels.box, labels.middles
