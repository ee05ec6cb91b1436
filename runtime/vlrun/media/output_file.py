"""Images on disk: written whole or not at all, and whether they can be is known before the work.

Knows files; does not know what an image shows.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path

from PIL import Image

from vlrun.errors import OutputError

_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def check_target(path: str | os.PathLike[str]) -> None:
    """Ask before the work is done whether ``save_image`` can write there. Raises OutputError if it cannot."""
    name = os.fspath(path)
    if Path(name).suffix.lower() not in _SUFFIXES:
        raise OutputError(f"cannot write '{name}': its name must end in {', '.join(_SUFFIXES)}")
    target = _behind_links(name)
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            target.lstat()  # tells of names that cannot be, which the questions below deny without a word
        is_folder, has_parent = target.is_dir(), target.parent.is_dir()
        writable = os.access(target.parent, os.W_OK | os.X_OK)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write '{name}': {_reason(error)}") from error
    if is_folder:
        raise OutputError(f"cannot write '{name}': it is a folder")
    if not has_parent:
        raise OutputError(f"cannot write '{name}': there is no folder '{target.parent}'")
    if not writable:
        raise OutputError(f"cannot write '{name}': '{target.parent}' is not yours to write in")


def save_image(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write PNG, JPEG or WebP, as the name says: the whole file, or none and OutputError."""
    check_target(path)
    name = os.fspath(path)
    try:
        encoded = io.BytesIO()
        image.save(encoded, _SUFFIXES[Path(name).suffix.lower()], quality=92, subsampling=0)  # thin lines keep colour
        _replace(_behind_links(name), encoded.getvalue())
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write '{name}': {_reason(error)}") from error


def _behind_links(name: str) -> Path:
    """Where a link leads, so that it stays a link; of a name that cannot be the name itself."""
    with contextlib.suppress(ValueError):
        return Path(os.path.realpath(name))
    return Path(name)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _replace(target: Path, content: bytes) -> None:
    """Write beside the target, with the rights that a new file gets, then rename."""
    with tempfile.TemporaryDirectory(prefix=".vlrun-", dir=target.parent) as folder:
        part = Path(folder) / target.name
        part.write_bytes(content)
        part.replace(target)
