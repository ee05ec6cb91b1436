"""From RGB to the vision encoder's patches: resize within a pixel budget, normalize, cut.

Bit-identical to transformers' ``Qwen2VLImageProcessor`` (the one that uses Pillow).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vlrun.errors import MediaTooLarge
from vlrun.manifest import Preprocessing, VisionDimensions
from vlrun.media.clip import FramePair
from vlrun.media.frame_sampling import MAX_ASPECT_RATIO
from vlrun.media.image import Image, ResizedImage
from vlrun.media.resizing import resize_rgb
from vlrun.types.arrays import FloatArray
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches


def grid_of(
    size: tuple[int, int], preprocessing: Preprocessing, vision: VisionDimensions, max_pixels: int, min_pixels: int = 0
) -> Grid:
    """Compute the patch grid of an image of a width and height. Raises MediaTooLarge beyond ``MAX_ASPECT_RATIO``.

    ``max_pixels`` can only lower the model's limit. Images below ``min_pixels`` are enlarged, within that limit.
    """
    width, height = size
    budget = max(min(max_pixels, preprocessing.max_pixels), preprocessing.min_pixels)
    least = min(max(min_pixels, preprocessing.min_pixels), budget)
    height, width = fit(height, width, vision.patch * vision.merge, least, budget)
    return Grid(height // vision.patch, width // vision.patch, vision.merge)


def resize(image: Image, grid: Grid, vision: VisionDimensions) -> ResizedImage:
    """Return an image with only the pixels that ``cut`` needs."""
    if isinstance(image, ResizedImage) and image.rgb.shape[:2] == (
        grid.height * vision.patch,
        grid.width * vision.patch,
    ):
        return image
    rgb = resize_rgb(image.rgb, grid.width * vision.patch, grid.height * vision.patch)
    return ResizedImage(rgb, image.sha256, image.notes, image.transform, image.label, image.size)


def cut(image: Image | FramePair, grid: Grid, preprocessing: Preprocessing, vision: VisionDimensions) -> Patches:
    """Resize, normalize and cut an image, or a pair of video frames, into the patches of ``grid``."""
    if isinstance(image, FramePair):
        frames = [_resized_frame(frame, grid, vision) for frame in image.frames]
    else:
        frames = [resize(image, grid, vision).rgb]
    return Patches(pixels=_to_rows(frames, grid, preprocessing, vision), grid=grid)


def _resized_frame(rgb: npt.NDArray[np.uint8], grid: Grid, vision: VisionDimensions) -> npt.NDArray[np.uint8]:
    width, height = grid.width * vision.patch, grid.height * vision.patch
    return rgb if rgb.shape[:2] == (height, width) else resize_rgb(rgb, width, height)


def fit(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Compute the (height, width) to resize to: multiples of ``factor``, area within limits, aspect ratio nearly kept.

    Equal to ``smart_resize`` of the reference.
    """
    if max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
        raise MediaTooLarge(
            f"an image of {width} x {height} is too narrow a strip: the side ratio may be at most {MAX_ASPECT_RATIO}"
        )
    fitted_height, fitted_width = round(height / factor) * factor, round(width / factor) * factor
    if fitted_height * fitted_width > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        fitted_height = max(factor, math.floor(height / shrink / factor) * factor)
        fitted_width = max(factor, math.floor(width / shrink / factor) * factor)
    elif fitted_height * fitted_width < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        fitted_height = math.ceil(height * grow / factor) * factor
        fitted_width = math.ceil(width * grow / factor) * factor
    return fitted_height, fitted_width


def _to_rows(
    frames: Sequence[npt.NDArray[np.uint8]], grid: Grid, preprocessing: Preprocessing, vision: VisionDimensions
) -> FloatArray:
    """Return the patches of frames, which fill the temporal patch; a still image fills all of it."""
    m, p = vision.merge, vision.patch
    normalized = np.empty((grid.patches, 3, vision.temporal_patch, p, p), np.float32)
    tables = _normalization(preprocessing)
    for index, rgb in enumerate(frames):
        blocks = rgb.reshape(grid.height // m, m, p, grid.width // m, m, p, 3)
        channels_first = blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(grid.patches, 3, 1, p, p)
        slots = slice(index, index + 1) if len(frames) > 1 else slice(None)
        for channel, table in enumerate(tables):
            normalized[:, channel, slots] = table[channels_first[:, channel]]
    return normalized.reshape(grid.patches, -1)


def _normalization(preprocessing: Preprocessing) -> FloatArray:
    """Return the normalized value of each 8-bit value, ``[3, 256]``, rounded as in the reference."""
    rescaled = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    mean = np.array(preprocessing.mean, np.float32)[:, None]
    std = np.array(preprocessing.std, np.float32)[:, None]
    return ((rescaled - mean) / std).astype(np.float32)
