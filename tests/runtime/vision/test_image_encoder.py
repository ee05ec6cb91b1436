"""Encoding one image: features that cannot be right are an error."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import pytest

from vlrun import manifest as manifests
from vlrun.embedded import FOLDER
from vlrun.errors import DeviceError
from vlrun.media.image import open_image
from vlrun.vision.features import ImageFeatures
from vlrun.vision.grid import Grid
from vlrun.vision.image_encoder import ImageEncoder, PreparedImage
from vlrun.vision.vision_encoder import Patches, VisionEncoder

MANIFEST = manifests.read(FOLDER)


class FakeEncoder:
    """An encoder whose features are all ``value``."""

    def __init__(self, value: float) -> None:
        self.value = value

    def encode(self, patches: Patches, _: Callable[[], bool]) -> ImageFeatures:
        values = np.zeros((2, patches.grid.tokens, 8), np.float32)
        values[-1, -1, -1] = self.value
        return ImageFeatures(values)

    def warm_up(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("value", [1.0, np.inf, -np.inf, np.nan])
def test_features_that_are_not_finite_are_an_error(value: float) -> None:
    """Guards against nonsense from a precision that overflows, such as f16."""
    loaded: Future[VisionEncoder] = Future()
    loaded.set_result(FakeEncoder(value))
    encoder = ImageEncoder(lambda: loaded, MANIFEST.preprocessing, MANIFEST.vision)
    image = PreparedImage(open_image(np.zeros((64, 64, 3), np.uint8)), Grid(4, 4, MANIFEST.vision.merge))
    if np.isfinite(value):
        assert encoder.encode(image, lambda: False).tokens == image.tokens
        assert image.tokens in encoder.seconds
        return
    with pytest.raises(DeviceError, match="not finite; try another --vision-precision"):
        encoder.encode(image, lambda: False)
    assert not encoder.seconds
