"""Overlays an image with a heat map of one value per visual token."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from vlrun.errors import OptionError
from vlrun.media.image import Image
from vlrun.types.arguments import instance

MAX_SIDE = 2048
"""Maximum of the longer side of the result in pixels: a heat map has only a few dozen cells."""

INFERNO = np.array(
    [
        list(bytes.fromhex(colour))
        for colour in "000004 1b0c41 4a0c6b 781c6d a52c60 cf4446 ed6925 fb9b06 f7d13d fcffa4".split()
    ],
    np.float32,
)
"""Ten even steps of Inferno by N. J. Smith and S. van der Walt (matplotlib, CC0). Lightness increases evenly, so the
order is visible in grey and to colour-blind readers.
"""

GREY_RANGE = (40.0, 170.0)
"""Levels that the image is compressed to, so that neither black nor white hides the heat."""
COLOUR = 0.3
"""Share of the image's colour that is kept, to separate colours of the same lightness."""
OPACITY = 0.72
"""Opacity of cells with at least half of the highest value; it decreases linearly to 0 for the value 0."""


def overlay_heat(image: Image, heat: npt.NDArray[np.float32]) -> PILImage.Image:
    """Overlay an image with heat, relative to the highest value; if all values are 0, return the image.

    Args:
        image: The image that was passed to the model.
        heat: ``[rows, columns]``, values of 0 or more.

    Returns:
        The overlay; its longer side has at most ``MAX_SIDE`` pixels.

    Raises:
        OptionError: The shape is wrong, or a value is negative or not finite.
    """
    instance(Image)("image", image)
    instance(np.ndarray, "an array")("heat", heat)
    if heat.dtype.kind not in "fiu":
        raise OptionError(f"heat must be an array of numbers, not {heat.dtype}")
    if heat.ndim != 2 or heat.size == 0:
        raise OptionError(f"a heat map has rows and columns, not the shape {list(heat.shape)}")
    if not np.isfinite(heat).all() or heat.min() < 0:
        raise OptionError("a heat map has finite values of 0 or more")
    pil_image = PILImage.fromarray(image.rgb)
    pil_image.thumbnail((MAX_SIDE, MAX_SIDE), PILImage.Resampling.LANCZOS)
    highest = float(heat.max())
    if highest == 0:
        return pil_image
    share = _resized((heat.astype(np.float64) / highest).astype(np.float32), pil_image.size)
    low, high = GREY_RANGE
    grey = np.asarray(pil_image.convert("L"), np.float32)[..., None]
    base = low + (high - low) / 255 * (grey + COLOUR * (np.asarray(pil_image, np.float32) - grey))
    opacity = OPACITY * np.minimum(2 * share, 1)[..., None]
    mixed = base + opacity * (_coloured(share) - base)
    return PILImage.fromarray(np.rint(mixed).astype(np.uint8))


def _resized(share: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize shares 0..1 to ``[height, width]``."""
    smooth = PILImage.fromarray(share).resize(size, PILImage.Resampling.BICUBIC)
    return np.clip(np.asarray(smooth, np.float32), 0, 1)  # bicubic interpolation overshoots


def _coloured(share: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Map shares 0..1 to RGB ``[height, width, 3]`` 0..255 with a table of 256 colours."""
    steps = np.linspace(0, 1, 256)
    anchors = np.linspace(0, 1, len(INFERNO))
    table = np.stack([np.interp(steps, anchors, INFERNO[:, channel]) for channel in range(3)], 1).astype(np.float32)
    coloured: npt.NDArray[np.float32] = table[np.rint(share * 255).astype(np.uint8)]
    return coloured
