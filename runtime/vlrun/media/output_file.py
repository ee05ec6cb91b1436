"""Writes image files atomically; checks beforehand whether that is possible."""

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
    """Raise OutputError if ``save_image`` could not write there."""
    name = os.fspath(path)
    if Path(name).suffix.lower() not in _SUFFIXES:
        raise OutputError(f"cannot write '{name}': its name must end in {', '.join(_SUFFIXES)}")
    target = resolve_links(name)
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            target.lstat()  # raises for invalid names, for which the checks below return False
        is_folder, has_parent = target.is_dir(), target.parent.is_dir()
        writable = os.access(target.parent, os.W_OK | os.X_OK)
        is_special = target.exists() and not target.is_file()
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write '{name}': {_reason(error)}") from error
    if is_folder:
        raise OutputError(f"cannot write '{name}': it is a folder")
    if is_special:  # a device, a pipe or a socket
        raise OutputError(f"cannot write '{name}': it is not a regular file")
    if not has_parent:
        raise OutputError(f"cannot write '{name}': there is no folder '{target.parent}'")
    if not writable:
        raise OutputError(f"cannot write '{name}': '{target.parent}' is not writable")


def save_image(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a PNG, JPEG or WebP file, chosen by the suffix. Raises OutputError; the target is then unchanged."""
    check_target(path)
    name = os.fspath(path)
    try:
        encoded = io.BytesIO()
        image.save(encoded, _SUFFIXES[Path(name).suffix.lower()], quality=92, subsampling=0)  # thin lines keep colour
        _write_atomically(resolve_links(name), encoded.getvalue())
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write '{name}': {_reason(error)}") from error


def resolve_links(name: str) -> Path:
    """Return the target of a symbolic link, so that the link is kept."""
    with contextlib.suppress(ValueError):
        return Path(os.path.realpath(name))
    return Path(name)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _write_atomically(target: Path, content: bytes) -> None:
    """Write to the target's folder, with the permissions of a new file, then rename."""
    with tempfile.TemporaryDirectory(prefix=".vlrun-", dir=target.parent) as folder:
        part = Path(folder) / target.name
        part.write_bytes(content)
        part.replace(target)
