"""Opens HEIC photos with pi-heif, which is imported for the first one only."""

from __future__ import annotations

from typing import IO

from PIL import Image as PILImage

from vlrun.errors import MissingExtra

EXTRA = "heic"


def open_heif(file: IO[bytes], name: str) -> PILImage.Image:
    """Open a HEIF image, whose pixels are not decoded yet. libheif turns them upright.

    Raises:
        MissingExtra: The package is not installed.
        SyntaxError: The file is damaged.
    """
    try:
        from pi_heif.as_plugin import HeifImageFile
    except ImportError:
        raise MissingExtra(f"{name} is a HEIC photo, which needs another package", EXTRA) from None
    image: PILImage.Image = HeifImageFile(file)
    return image
