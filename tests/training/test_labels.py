"""Patch labels and attention targets of known scenes."""

from __future__ import annotations

import pytest
from PIL import Image

from training.clips import CHANGES, Actor, Clip, Timing
from training.labels import CHARACTERS, PALETTE, THINGS, UNKNOWN, attention_weights, patch_labels, timeline_labels
from training.qa import AttentionTarget
from training.scenes import (
    Glyph,
    Item,
    Scene,
)
from vlrun.vision.grid import Grid


def test_items_label_the_patches_whose_centre_they_cover() -> None:
    """Labels are in merge-block order."""
    grid = Grid(4, 4, 2)
    items = (Item("can", "red", (0.0, 0.0, 0.5, 0.25)), Item("bag", "blue", (0.5, 0.5, 1.0, 1.0)))
    glyphs = (Glyph("7", (0.5, 0.0, 0.75, 0.25)),)
    labels = patch_labels(Scene("shelf", Image.new("RGB", (64, 64)), items, glyphs=glyphs), grid)
    can, bag = THINGS.index("can"), THINGS.index("bag")
    assert labels.thing.tolist() == [can, can, 0, 0, *[0] * 8, *[bag] * 4]
    assert labels.colour.tolist() == [PALETTE.index("red")] * 2 + [0] * 10 + [PALETTE.index("blue")] * 4
    assert labels.character.tolist() == [0, 0, 0, 0, CHARACTERS.index("7"), *[0] * 11]
    assert labels.place.tolist() == [0, 0, 0, 0, 1, *[0] * 11]
    assert labels.middles.tolist() == [1, 1, 0, 1]
    assert labels.box[-1].tolist() == [0.5, 0.5, 1.0, 1.0]
    assert set(patch_labels(Scene("easy", Image.new("RGB", (64, 64))), grid).thing) == {UNKNOWN}


def test_attention_weights_follow_the_covered_area_or_counted_centres() -> None:
    """Counted items also give weight to the first token."""
    grid = Grid(4, 4, 2)
    thing = attention_weights(AttentionTarget(0, 1, ((0.0, 0.0, 0.75, 0.5),)), grid)
    assert thing.tolist() == pytest.approx([0, 2 / 3, 1 / 3, 0, 0])
    several = attention_weights(AttentionTarget(0, 1, ((0.1, 0.1, 0.3, 0.3), (0.4, 0.6, 0.5, 0.9)), counted=True), grid)
    assert several.tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3, 0])
    assert attention_weights(AttentionTarget(0, 1, (), counted=True), grid).tolist() == [1, 0, 0, 0, 0]


def test_attention_weights_of_the_second_image_follow_the_first() -> None:
    grid = Grid(4, 4, 2)
    target = AttentionTarget(0, 1, ((0.0, 0.0, 0.5, 0.5),), images=(1,))
    assert attention_weights(target, grid, 2).tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_timeline_labels_tell_what_happens_when_and_where() -> None:
    """An item that turns red in the second pair, and one that is gone in the third."""
    grid, timing = Grid(4, 4, 2), Timing((0.0, 1.0, 4.0, 5.0, 12.0, 12.0), 5)
    left, right = (0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.45)
    before, after = Item("can", "blue", left), Item("can", "red", left)
    bag = Item("bag", "blue", right)
    actors = (
        Actor("can", "turn", 3, 1, (before,) * 3 + (after,) * 3),
        Actor("bag", "leave", 4, 1, (bag,) * 4 + (None,) * 2),
    )
    labels = timeline_labels([Clip((), actors, timing)], grid)
    assert labels.digits.tolist() == [[0, 0, 5], [0, 4, 5], [1, 2, 0]]
    turned, gone = (1 + list(CHANGES).index(change) for change in ("turn", "leave"))
    assert labels.changes.tolist() == [[0] * 4 + [turned, 0, 0, 0] + [0, gone, 0, 0]]
