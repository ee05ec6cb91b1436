"""A heat map laid over an image: where a value per visual token is high.

Knows colours and enlarging; does not know what the values mean or which model gave them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from vlrun.errors import OptionError
from vlrun.media.image import Image

MOST_SIDE = 2048
"""Pixels of the longer side that comes out: a heat map has a few dozens of cells, so more pixels show nothing more."""

INFERNO = np.array(
    [
        (0x00, 0x00, 0x04),
        (0x1B, 0x0C, 0x41),
        (0x4A, 0x0C, 0x6B),
        (0x78, 0x1C, 0x6D),
        (0xA5, 0x2C, 0x60),
        (0xCF, 0x44, 0x46),
        (0xED, 0x69, 0x25),
        (0xFB, 0x9B, 0x06),
        (0xF7, 0xD1, 0x3D),
        (0xFC, 0xFF, 0xA4),
    ],
    np.float32,
)
"""Ten even steps of Inferno by N. J. Smith and S. van der Walt (matplotlib, CC0): lightness grows evenly, so that the
order shows in grey and to the colour-blind too.
"""

GREY_RANGE = (40.0, 170.0)
"""The image below becomes grey between these levels, so that neither its blacks nor its whites hide the heat."""
COLOUR = 0.3
"""How much of the image's colour the grey keeps: red on green of the same lightness would be lost without it."""
OPACITY = 0.72
"""Of places at least half as hot as the hottest; a cold one shows the image alone."""


def overlay_heat(image: Image, heat: npt.NDArray[np.float32]) -> PILImage.Image:
    """The image in grey under ``heat [rows, columns]``, relative to its highest value; at most MOST_SIDE pixels long.

    Without any heat it keeps its colours. Raises OptionError if a value is negative or not a number.
    """
    if heat.ndim != 2 or heat.size == 0:
        raise OptionError(f"a heat map has rows and columns, not the shape {list(heat.shape)}")
    if not np.isfinite(heat).all() or heat.min() < 0:
        raise OptionError("a heat map has values of 0 and more, without NaN and infinity")
    pil_image = PILImage.fromarray(image.rgb)
    pil_image.thumbnail((MOST_SIDE, MOST_SIDE), PILImage.Resampling.LANCZOS)
    highest = float(heat.max())
    if highest == 0:
        return pil_image
    share = _enlarged((heat.astype(np.float64) / highest).astype(np.float32), pil_image.size)
    low, high = GREY_RANGE
    grey = np.asarray(pil_image.convert("L"), np.float32)[..., None]
    base = low + (high - low) / 255 * (grey + COLOUR * (np.asarray(pil_image, np.float32) - grey))
    opacity = OPACITY * np.minimum(2 * share, 1)[..., None]
    mixed = base + opacity * (_coloured(share) - base)
    return PILImage.fromarray(np.rint(mixed).astype(np.uint8))


def _enlarged(share: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Shares 0..1 for each pixel ``[height, width]``. At the borders Pillow weighs only what is there: none is dark."""
    smooth = PILImage.fromarray(share).resize(size, PILImage.Resampling.BICUBIC)
    return np.clip(np.asarray(smooth, np.float32), 0, 1)  # bicubic swings beyond steep slopes


def _coloured(share: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """RGB ``[height, width, 3]`` 0..255 by a table of 256 colours."""
    steps = np.linspace(0, 1, 256)
    anchors = np.linspace(0, 1, len(INFERNO))
    table = np.stack([np.interp(steps, anchors, INFERNO[:, channel]) for channel in range(3)], 1).astype(np.float32)
    coloured: npt.NDArray[np.float32] = table[np.rint(share * 255).astype(np.uint8)]
    return coloured
