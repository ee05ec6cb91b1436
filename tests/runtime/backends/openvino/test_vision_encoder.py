"""The vision encoder that is compiled for each number of patches."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np

from vlrun.backends.openvino.vision_encoder import MAX_SHAPES, StaticVisionEncoder
from vlrun.vision.features import ImageFeatures
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches


class FakeEncoder:
    """An encoder for one number of patches."""

    def __init__(self, patches: int) -> None:
        self.patches = patches

    def warm_up(self) -> None:
        raise AssertionError

    def encode(self, patches: Patches, stopped: Callable[[], bool]) -> ImageFeatures:
        assert patches.grid.patches == self.patches
        return ImageFeatures(np.full((1, patches.grid.tokens, 1), self.patches, np.float32))


def test_each_number_of_patches_is_compiled_once_and_few_are_kept() -> None:
    """Every compiled model holds the weights: a day of photos of all sizes would fill the memory."""
    opened: list[int] = []
    alive: list[weakref.ref[FakeEncoder]] = []

    def open_encoder(patches: int) -> FakeEncoder:
        opened.append(patches)
        encoder = FakeEncoder(patches)
        alive.append(weakref.ref(encoder))
        return encoder

    encoder = StaticVisionEncoder(open_encoder)
    encoder.warm_up()
    for height, width in ((4, 4), (2, 8), (4, 6), (4, 4), (4, 8), (4, 4), (4, 6)):
        features = encoder.encode(
            Patches(np.zeros((height * width, 1), np.float32), Grid(height, width, 2)), lambda: False
        )
        assert (features.values == height * width).all()
    assert opened == [16, 24, 32, 24]  # 4 x 4 and 2 x 8 share one; 24 was the least recently used when 32 came
    gc.collect()
    assert sum(reference() is not None for reference in alive) == MAX_SHAPES
