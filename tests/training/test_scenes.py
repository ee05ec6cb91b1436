"""Scenes are reproducible and within their limits."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the workbench packages")

from tests.training.scenes import SEEDS, SIZE, scene
from training.batches import SIZES
from training.scenes import (
    COLUMN_PIXELS,
    MAX_ITEMS,
    MAX_PIXELS,
    MIN_PIXELS,
    PIXEL_FACTOR,
    SHELF_PIXELS,
    draw_scene,
    original_size,
)
from vlrun.vision.patches import fit


@pytest.mark.parametrize("domain", ["shelf", "tag", "sign", "shapes"])
def test_a_seed_determines_the_scene(domain: str) -> None:
    first, again, other = scene(domain, 3), scene(domain, 3), scene(domain, 4)
    assert (first.items, first.glyphs, first.text) == (again.items, again.glyphs, again.text)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.image.tobytes() != other.image.tobytes()
    assert first.image.size == SIZE


def test_large_scenes_have_no_finer_details() -> None:
    """Details must stay visible to the model after resizing."""
    for seed in SEEDS:
        large = draw_scene("shelf", SIZE, np.random.default_rng(seed), drawn=(1024, 768))
        assert large.image.size == (1024, 768)
        assert large.shelves <= SIZE[1] // SHELF_PIXELS
        assert all((i.box[2] - i.box[0]) * SIZE[0] < SIZE[0] / 2 for i in large.items)


def test_shelves_are_within_limits() -> None:
    for seed in SEEDS:
        drawn = scene("shelf", seed)
        assert len(drawn.items) <= min(MAX_ITEMS, (SIZE[0] // COLUMN_PIXELS) * (SIZE[1] // SHELF_PIXELS))
        for item in drawn.items:
            left, top, right, bottom = item.box
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1


@pytest.mark.parametrize("size", SIZES)
def test_original_sizes_are_resized_to_the_training_size(size: tuple[int, int]) -> None:
    """From several aspect ratios, with the runtime's own resize rule."""
    rng = np.random.default_rng(0)
    originals = [original_size(size, rng) for _ in range(40)]
    for width, height in originals:
        assert fit(height, width, PIXEL_FACTOR, MIN_PIXELS, MAX_PIXELS) == (size[1], size[0])
    proportions = [width / height for width, height in originals]
    assert max(proportions) > 1.03 * min(proportions)
