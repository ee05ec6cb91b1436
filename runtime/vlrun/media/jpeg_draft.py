"""Decodes large JPEG files at a fraction of their size, as libjpeg can do: it never has all their pixels in memory."""

from __future__ import annotations

import math

from PIL import Image as PILImage
from PIL import JpegImagePlugin

MAX_JPEG_PIXELS = 300_000_000
"""Of a JPEG that is decoded at a fraction of its size: photos of 200 megapixels, and panoramas."""
MAX_PROGRESSIVE_PIXELS = 180_000_000
"""Of a progressive one: libjpeg keeps up to 8 bytes of each pixel, at any fraction."""
MAX_REDUCTION = 8
"""Of the width and the height."""


def max_pixels_of(pil_image: PILImage.Image, limit: int) -> int:
    """Return how many pixels the header of an image may have if ``limit`` pixels may be decoded."""
    if not isinstance(pil_image, JpegImagePlugin.JpegImageFile):
        return limit
    return max(limit, MAX_PROGRESSIVE_PIXELS if is_progressive(pil_image) else MAX_JPEG_PIXELS)


def is_progressive(pil_image: PILImage.Image) -> bool:
    """Return whether libjpeg keeps a whole JPEG in memory to decode it, whatever the fraction is."""
    return "progressive" in pil_image.info


def reduce(pil_image: PILImage.Image, limit: int) -> int:
    """Set an image that is not loaded yet to the largest fraction of its size within ``limit`` pixels, if it is a JPEG.

    Returns:
        The divisor of width and height. Narrow strips cannot be reduced, and still have more pixels.
    """
    reduction = 1
    while math.prod(pil_image.size) > limit * reduction**2 and reduction < MAX_REDUCTION:
        reduction *= 2
    draft(pil_image, reduction)
    return reduction


def draft(pil_image: PILImage.Image, reduction: int) -> None:
    """Set an image to a fraction of its size."""
    if reduction > 1:
        pil_image.draft(None, (max(pil_image.width // reduction, 1), max(pil_image.height // reduction, 1)))
