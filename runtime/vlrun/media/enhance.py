"""Straightens, brightens and sharpens photos where measurements show the need. Deterministic."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageFilter

from vlrun.media.image import Image, derive_image
from vlrun.media.transform import IDENTITY, Matrix
from vlrun.types.arguments import instance

FloatArray: TypeAlias = npt.NDArray[np.float32]

TILT_SIDE, BLUR_SIDE = 512, 1280
"""Longest side in pixels of the copies for measuring tilt and brightness, and blur."""
MIN_SIDE = 32
"""Shortest side in pixels; smaller images are not measured."""
MAX_TILT, MIN_TILT = 12.0, 0.8
"""Degrees."""
MIN_ALIGNMENT_GAIN = 1.35
"""Factor by which rotation must improve the alignment of lines."""
DARK, PALE = 165.0, 60.0
"""Levels 0..255: an image is dark if no channel is brighter, and pale if its range of levels is smaller."""
MIN_RANGE = 16.0
"""Images with a smaller range of levels are plain areas."""
MEDIAN = 0.35
"""Median level 0..1 that darker images are brightened to."""
BLURRED = 0.27
"""Images below this steepness are blurry: change over one pixel divided by change over eight, at the steepest edges."""
SIGMA_TIMES_STEEPNESS = 0.4
"""Standard deviation of a Gaussian blur in pixels times the resulting steepness: 1 / sqrt(2 pi)."""
MAX_RADIUS = 4.0


def enhance(image: Image) -> Image:
    """Straighten, brighten and sharpen an image where needed, with a note; return good images unchanged."""
    instance(Image)("image", image)
    if min(image.size) < MIN_SIDE:
        return image
    pil_image, matrix, notes = PILImage.fromarray(image.rgb), IDENTITY, []
    tilt = _tilt(_grey(pil_image, TILT_SIDE))
    if tilt:
        pil_image, matrix = _rotated(pil_image, tilt)
        notes.append(f"rotated by {tilt:.1f} degrees")
    if brightness := _brightness(pil_image):
        table, change = brightness
        pil_image = pil_image.point(table * 3)
        notes.append(change)
    radius = _sharpen_radius(pil_image)
    if radius:
        pil_image = pil_image.filter(ImageFilter.UnsharpMask(radius, percent=150, threshold=2))
        notes.append("sharpened")
    if not notes:
        return image
    return derive_image(image, np.asarray(pil_image), matrix, (f"the image was {' and '.join(notes)}",))


def _grey(pil_image: PILImage.Image, side: int) -> FloatArray:
    """Return the luminance 0..255 of a copy of at most ``side`` pixels, ``[height, width]``."""
    grey = pil_image.convert("L")
    grey.thumbnail((side, side), PILImage.Resampling.BOX)
    return np.asarray(grey, np.float32)


def _tilt(grey: FloatArray) -> float:
    """Return the counterclockwise rotation in degrees that makes lines horizontal or vertical; 0 if unclear."""
    horizontal = np.minimum(np.abs(np.diff(grey, axis=0))[:, :-1], 60)
    vertical = np.minimum(np.abs(np.diff(grey, axis=1))[:-1], 60)
    if min(horizontal.shape) < MIN_SIDE or not horizontal.any():
        return 0.0
    coarse = np.arange(-MAX_TILT, MAX_TILT + 0.01, 1.0)
    best = max(coarse, key=lambda angle: _alignment(horizontal, vertical, float(angle)))
    fine = np.arange(best - 1, best + 1.01, 0.2)
    found = float(max(fine, key=lambda angle: _alignment(horizontal, vertical, float(angle))))
    clear = _alignment(horizontal, vertical, found) >= MIN_ALIGNMENT_GAIN * _alignment(horizontal, vertical, 0.0)
    return round(found, 1) if clear and MIN_TILT <= abs(found) < MAX_TILT else 0.0


def _alignment(horizontal: FloatArray, vertical: FloatArray, angle: float) -> float:
    """Return how much the edges of an image rotated by ``angle`` concentrate in few rows and columns."""
    rotated = (
        PILImage.fromarray(edges).rotate(angle, PILImage.Resampling.BILINEAR) for edges in (horizontal, vertical)
    )
    rows, columns = (_centre(edges) for edges in rotated)
    return float((rows.mean(1) ** 2).sum() / len(rows) + (columns.mean(0) ** 2).sum() / columns.shape[1])


def _centre(pil_image: PILImage.Image) -> FloatArray:
    """Return the centre of a rotated image, without its empty corners."""
    width, height = pil_image.size
    return np.asarray(pil_image.crop((width // 7, height // 7, width - width // 7, height - height // 7)), np.float32)


def _rotated(pil_image: PILImage.Image, degrees: float) -> tuple[PILImage.Image, Matrix]:
    """Return the image rotated about its centre at the same size, and the matrix that maps its pixels back."""
    border = np.concatenate([np.asarray(pil_image)[0], np.asarray(pil_image)[-1]])
    red, green, blue = (int(value) for value in np.median(border, axis=0))
    rotated = pil_image.rotate(degrees, PILImage.Resampling.BICUBIC, fillcolor=(red, green, blue))
    cos, sin = math.cos(math.radians(-degrees)), math.sin(math.radians(-degrees))
    x, y = pil_image.width / 2, pil_image.height / 2
    return rotated, (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)


def _brightness(pil_image: PILImage.Image) -> tuple[list[int], str] | None:
    """Return new values for 0..255 and the name of the change if the image is dark or pale, but not plain.

    The range is that of the darkest and brightest channel: the range of the grey levels would clip a channel, and
    yellow would become orange.
    """
    small = pil_image.copy()
    small.thumbnail((TILT_SIDE, TILT_SIDE), PILImage.Resampling.BOX)
    rgb = np.asarray(small, np.float32)
    low, high = float(np.percentile(rgb.min(-1), 2)), float(np.percentile(rgb.max(-1), 99.5))
    middle = float(np.median(rgb @ np.array([0.299, 0.587, 0.114], np.float32)))
    if high - low < MIN_RANGE or (high >= DARK and high - low >= PALE):
        return None
    levels = ((np.arange(256) - low) / (high - low) * 0.98).clip(0, 1)
    median = (middle - low) / (high - low)
    gamma = max(0.5, math.log(MEDIAN) / math.log(max(median, 0.02))) if median < MEDIAN else 1.0
    table = np.round(levels**gamma * 255).astype(int).tolist()
    return table, "brightened" if high < DARK else "given more contrast"


def _sharpen_radius(pil_image: PILImage.Image) -> float:
    """Return the radius in pixels of the unsharp mask for a blurry image; 0 for a sharp one."""
    grey = _grey(pil_image, BLUR_SIDE)
    if min(grey.shape) < MIN_SIDE:
        return 0.0
    steepness = max(_steepness(grey), _steepness(grey.T))
    if not 0 < steepness < BLURRED:
        return 0.0
    return float(min(SIGMA_TIMES_STEEPNESS / steepness, MAX_RADIUS) * max(pil_image.size) / max(grey.shape))


def _steepness(grey: FloatArray) -> float:
    """Return the steepness of the steepest vertical edges (see BLURRED); 1 if there are none."""
    far = np.percentile(np.abs(grey[:, 8:] - grey[:, :-8]), 99.5)
    return float(np.percentile(np.abs(np.diff(grey, axis=1)), 99.5) / far) if far >= MIN_RANGE else 1.0
