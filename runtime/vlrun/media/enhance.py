"""Blurry, dark or tilted photos made clearer: each step only where it is measured to be needed, and told.

Deterministic; a good image comes out as it went in, pixel for pixel. Knows pixels; does not know what they show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageFilter

from vlrun.media.image import Image, made_from
from vlrun.media.transform import IDENTITY, Matrix

FloatArray = npt.NDArray[np.float32]

TILT_SIDE, BLUR_SIDE = 512, 1280
"""Longest side of the copies that tilt and light, and blur, are measured on: more than the model sees is not needed."""
LEAST_SIDE = 32
"""Pixels; in less there is nothing to be measured."""
MOST_TILT, LEAST_TILT = 12.0, 0.8
"""Degrees."""
CLEAR_TILT = 1.35
"""An image is turned if its lines fall together by so much better than before."""
DARK, PALE = 165.0, 60.0
"""Levels (0..255): the brightest channel of a dark image; the room between darkest and brightest of a pale one."""
LEAST_RANGE = 16.0
"""Images with less between dark and bright are plain areas."""
MEDIAN = 0.35
BLURRED = 0.27
"""Steepness of the steepest edges: their change over one pixel as a part of that over eight. Sharp ones reach 1."""
SPREAD = 0.4
"""Standard deviation of a Gaussian blur in pixels, times the steepness that it leaves: its middle, 1 / sqrt(2 pi)."""
MOST_RADIUS = 4.0


def enhance(image: Image) -> Image:
    """The image straightened, brightened and sharpened where it needs it; ``notes`` say what was done."""
    if min(image.size) < LEAST_SIDE:
        return image
    pil_image, matrix, notes = PILImage.fromarray(image.rgb), IDENTITY, []
    tilt = _tilt(_grey(pil_image, TILT_SIDE))
    if tilt:
        pil_image, matrix = _turned(pil_image, tilt)
        notes.append(f"turned by {tilt:.1f} degrees")
    if light := _light(pil_image):
        pil_image = pil_image.point(light.table * 3)
        notes.append(light.word)
    radius = _blur(pil_image)
    if radius:
        pil_image = pil_image.filter(ImageFilter.UnsharpMask(radius, percent=150, threshold=2))
        notes.append("sharpened")
    if not notes:
        return image
    return made_from(image, np.asarray(pil_image), matrix, (f"the image was {' and '.join(notes)}",))


@dataclass(frozen=True)
class _Light:
    """New values for 0..255, and what that is called."""

    table: list[int]
    word: str


def _grey(pil_image: PILImage.Image, side: int) -> FloatArray:
    """Luminance 0..255 of a copy with ``side`` pixels at most, ``[height, width]``."""
    grey = pil_image.convert("L")
    grey.thumbnail((side, side), PILImage.Resampling.BOX)
    return np.asarray(grey, np.float32)


def _tilt(grey: FloatArray) -> float:
    """Degrees that the image must be turned, counterclockwise, for its lines to be level or upright; 0 if unclear."""
    steep = np.minimum(np.abs(np.diff(grey, axis=0))[:, :-1], 60)  # of level lines
    across = np.minimum(np.abs(np.diff(grey, axis=1))[:-1], 60)
    if min(steep.shape) < LEAST_SIDE or not steep.any():
        return 0.0
    coarse = np.arange(-MOST_TILT, MOST_TILT + 0.01, 1.0)
    best = max(coarse, key=lambda angle: _order(steep, across, float(angle)))
    fine = np.arange(best - 1, best + 1.01, 0.2)
    found = float(max(fine, key=lambda angle: _order(steep, across, float(angle))))
    clear = _order(steep, across, found) >= CLEAR_TILT * _order(steep, across, 0.0)
    return round(found, 1) if clear and LEAST_TILT <= abs(found) < MOST_TILT else 0.0


def _order(steep: FloatArray, across: FloatArray, angle: float) -> float:
    """How much the edges of an image turned by ``angle`` fall into few rows and columns."""
    turned = (PILImage.fromarray(edges).rotate(angle, PILImage.Resampling.BILINEAR) for edges in (steep, across))
    rows, columns = (_middle(edges) for edges in turned)
    return float((rows.mean(1) ** 2).sum() / len(rows) + (columns.mean(0) ** 2).sum() / columns.shape[1])


def _middle(pil_image: PILImage.Image) -> FloatArray:
    """What of a turned image has no empty corners."""
    width, height = pil_image.size
    return np.asarray(pil_image.crop((width // 7, height // 7, width - width // 7, height - height // 7)), np.float32)


def _turned(pil_image: PILImage.Image, degrees: float) -> tuple[PILImage.Image, Matrix]:
    """The image turned about its middle, at its size, and the matrix that takes its pixels into those before."""
    border = np.concatenate([np.asarray(pil_image)[0], np.asarray(pil_image)[-1]])
    red, green, blue = (int(value) for value in np.median(border, axis=0))
    turned = pil_image.rotate(degrees, PILImage.Resampling.BICUBIC, fillcolor=(red, green, blue))
    cos, sin = math.cos(math.radians(-degrees)), math.sin(math.radians(-degrees))
    x, y = pil_image.width / 2, pil_image.height / 2
    return turned, (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)


def _light(pil_image: PILImage.Image) -> _Light | None:
    """How to brighten a dark image or spread a pale one; None if it is neither, or plain.

    Bounds are those of the darkest and brightest channel: bounds of the grey would cut a channel off and turn yellow
    into orange.
    """
    small = pil_image.copy()
    small.thumbnail((TILT_SIDE, TILT_SIDE), PILImage.Resampling.BOX)
    rgb = np.asarray(small, np.float32)
    low, high = float(np.percentile(rgb.min(-1), 2)), float(np.percentile(rgb.max(-1), 99.5))
    middle = float(np.median(rgb @ np.array([0.299, 0.587, 0.114], np.float32)))
    if high - low < LEAST_RANGE or (high >= DARK and high - low >= PALE):
        return None
    levels = ((np.arange(256) - low) / (high - low) * 0.98).clip(0, 1)
    median = (middle - low) / (high - low)
    gamma = max(0.5, math.log(MEDIAN) / math.log(max(median, 0.02))) if median < MEDIAN else 1.0
    table = np.round(levels**gamma * 255).astype(int).tolist()
    return _Light(table, "brightened" if high < DARK else "given more contrast")


def _blur(pil_image: PILImage.Image) -> float:
    """Radius of the unsharp mask that a blurry image needs, in its own pixels; 0 for a sharp one."""
    grey = _grey(pil_image, BLUR_SIDE)
    if min(grey.shape) < LEAST_SIDE:
        return 0.0
    steepness = max(_steepness(grey), _steepness(grey.T))
    if not 0 < steepness < BLURRED:
        return 0.0
    return float(min(SPREAD / steepness, MOST_RADIUS) * max(pil_image.size) / max(grey.shape))


def _steepness(grey: FloatArray) -> float:
    """Of the steepest edges across: the change over one pixel as a part of that over eight; 1 if there are none."""
    far = np.percentile(np.abs(grey[:, 8:] - grey[:, :-8]), 99.5)
    return float(np.percentile(np.abs(np.diff(grey, axis=1)), 99.5) / far) if far >= LEAST_RANGE else 1.0
