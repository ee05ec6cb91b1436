"""Writes image files atomically; checks beforehand whether that is possible."""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import Image

from vlrun.errors import OutputError
from vlrun.storage.output_file import check_writable, reason, resolve_links, write_atomically

_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise OutputError if ``save_image`` could not write there."""
    name = os.fspath(path)
    if Path(name).suffix.lower() not in _SUFFIXES:
        raise OutputError(f"cannot write '{name}': its name must end in {', '.join(_SUFFIXES)}")
    check_writable(name)


def save_image(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a PNG, JPEG or WebP file, chosen by the suffix. Raises OutputError; the target is then unchanged."""
    check_target(path)
    name = os.fspath(path)
    try:
        encoded = io.BytesIO()
        image.save(encoded, _SUFFIXES[Path(name).suffix.lower()], quality=92, subsampling=0)  # thin lines keep colour
        write_atomically(resolve_links(name), encoded.getvalue())
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write '{name}': {reason(error)}") from error
