"""Files that are whole or not there: written beside and renamed, those of the cache with a checksum at their end.

Knows bytes and files; does not know what they mean.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vlrun.types.arrays import Bytes

PART = ".part"
CHECKSUM_BYTES = hashlib.sha256().digest_size


def write(path: Path, pieces: Sequence[bytes | memoryview]) -> None:
    """Put a file there, whole, and the checksum behind its content. Raises OSError, and leaves nothing then."""
    descriptor, name = tempfile.mkstemp(PART, "", path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # a file that nobody locks was left by a process that died
            digest = hashlib.sha256()
            for piece in pieces:
                digest.update(piece)
                file.write(piece)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def put(path: Path, content: bytes) -> None:
    """The same for a file that others read too: no checksum. Raises OSError, and leaves nothing then."""
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read(path: Path) -> Bytes:
    """The content of such a file. Raises OSError, or ValueError if it is damaged."""
    content = np.fromfile(path, np.uint8)
    body, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:].tobytes()
    if hashlib.sha256(body.data).digest() != checksum:
        raise ValueError("damaged")
    return body


def used(path: Path) -> None:
    """Remember that a file was used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def remove(path: Path) -> None:
    """Remove a file, if that can be done and nobody else did it."""
    with contextlib.suppress(OSError):
        path.unlink()


def shrink(paths: Iterable[Path], limit: int) -> None:
    """Remove the files used least recently until the others have at most ``limit`` bytes together."""
    files = []
    for path in paths:
        with contextlib.suppress(OSError):  # another process was faster
            status = path.stat()
            files.append((status.st_mtime_ns, status.st_size, path))
    excess = sum(size for _, size, _ in files) - limit
    for _, size, path in sorted(files):
        if excess <= 0:
            return
        remove(path)
        excess -= size


def sweep(folder: Path) -> None:
    """Remove half-written files of processes that are gone."""
    for path in folder.glob(f"*{PART}"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
