"""Resizes pixels exactly as the reference implementation's image processor with Pillow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage


def resize_rgb(rgb: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Resize horizontally first. In one call, Pillow 13 swaps the passes of some images and rounds differently."""
    image = PILImage.fromarray(rgb)
    horizontal = image.resize((width, image.height), PILImage.Resampling.BICUBIC)
    return np.asarray(horizontal.resize((width, height), PILImage.Resampling.BICUBIC))
