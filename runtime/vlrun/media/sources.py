"""Reads the bytes of encoded images from paths, local file URLs, pipes, buffers and open files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes

from vlrun.errors import DamagedMedia, MediaError, MediaNotFound, MediaTooLarge, UnsupportedMedia

UNNAMED = "the image"
MAX_NAME = 200
"""Characters of a name in messages: a data URL has megabytes."""
_FILE_URL = re.compile(r"file:(?://(?P<host>[^/]*))?(?P<path>/.*)", re.DOTALL | re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|https?:/|data:", re.IGNORECASE)
_THIS_MACHINE = ("", "localhost")


def read_source(source: object, max_bytes: int, unnamed: str = UNNAMED) -> tuple[bytes, str]:
    """Return the bytes of an encoded image and its name in messages.

    Args:
        source: A path, a file URL of this machine, bytes, or a file opened in binary mode. As Pillow does, a file that
            can seek is read from its beginning; its position stays.
        max_bytes: Limit for pipes, devices and files.
        unnamed: What messages call a source without a name.

    Raises:
        MediaError: MediaNotFound, DamagedMedia, MediaTooLarge or UnsupportedMedia.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        try:
            if memoryview(source).nbytes > max_bytes:
                raise _too_large(unnamed, max_bytes)
            return bytes(source), unnamed
        except ValueError as error:  # a memoryview that was released
            raise MediaNotFound(f"cannot read {unnamed}: {error}") from None
    if isinstance(source, str | os.PathLike):
        return _read_path(os.fsdecode(source), max_bytes)
    read = getattr(source, "read", None)
    if not callable(read):
        raise UnsupportedMedia(
            f"an image is a path, bytes, a file, a Pillow image or an array, not {type(source).__name__}"
        )
    return _read_file(source, read, max_bytes, unnamed)


def _read_path(text: str, max_bytes: int) -> tuple[bytes, str]:
    path, name = local_path(text), _quoted(text)
    try:
        if path.is_dir():
            raise MediaNotFound(f"{name} is a folder, not an image")
        with path.open("rb") as file:
            return _read_bounded(file.read, name, max_bytes), name
    except FileNotFoundError:
        raise MediaNotFound(f"no such image: {name}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise MediaNotFound(f"cannot open {name}: {reason}") from error


def local_path(text: str) -> Path:
    """Return the path of a file on this machine, given as such or as a URL. Raises MediaNotFound."""
    name = _quoted(text)
    if not text:
        raise MediaNotFound("the name of an image is empty")
    if url := _FILE_URL.fullmatch(text):
        if (url["host"] or "").lower() not in _THIS_MACHINE:
            raise MediaNotFound(f"{name} names the machine '{url['host']}': a file of this one is file:///...")
        return Path(os.fsdecode(unquote_to_bytes(url["path"])))
    if _URL.match(text):
        raise MediaNotFound(f"{name} is a URL, and vlrun opens only files: download it first")
    return Path(text)


def _read_file(file: object, read: Callable[[int], object], max_bytes: int, unnamed: str) -> tuple[bytes, str]:
    given = getattr(file, "name", None)
    name = _quoted(given) if isinstance(given, str) and given else unnamed
    if getattr(file, "closed", False) is True:
        raise MediaNotFound(f"cannot read {name}: the file is closed")
    try:
        tell, seek = getattr(file, "tell", None), getattr(file, "seek", None)
        if not (callable(tell) and callable(seek) and _can_seek(file)):
            return _read_bounded(read, name, max_bytes), name
        position = tell()
        seek(0)
        try:
            return _read_bounded(read, name, max_bytes), name
        finally:
            seek(position)
    except MediaError:
        raise
    except Exception as error:  # of any kind: EOFError from a gzip file, HTTPException from a response
        raise MediaNotFound(f"cannot read {name}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _can_seek(file: object) -> bool:
    seekable = getattr(file, "seekable", None)
    return bool(seekable()) if callable(seekable) else True


def _read_bounded(read: Callable[[int], object], name: str, max_bytes: int) -> bytes:
    """Read to the end. Pipes and devices have no size, and give a part at a time."""
    parts: list[bytes] = []
    left = max_bytes + 1
    while left:
        part = read(left)
        if not isinstance(part, bytes | bytearray):
            kind = "text" if isinstance(part, str) else type(part).__name__
            raise UnsupportedMedia(f"{name} gives {kind} instead of bytes: open the file in binary mode, 'rb'")
        if not part:
            return b"".join(parts)
        parts.append(bytes(part))
        left -= len(part)
        if left < 0:
            raise DamagedMedia(f"{name} gives more bytes than it was asked for")
    raise _too_large(name, max_bytes)


def _quoted(name: str) -> str:
    return f"'{name[:MAX_NAME]}'"


def _too_large(name: str, max_bytes: int) -> MediaTooLarge:
    return MediaTooLarge(f"{name} has more than {max_bytes:,} bytes, the limit")
