"""Atomic writes to a temporary file that is renamed; cache files with a checksum; LRU eviction."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vlrun.storage.regular_files import READ_BYTES, open_regular
from vlrun.types.arrays import Bytes

PARTIAL = ".part"
PARTIAL_NAME = re.compile(rf"\w{{8}}{re.escape(PARTIAL)}")
"""Name of a partial file, as ``tempfile`` makes it."""
CHECKSUM_BYTES = hashlib.sha256().digest_size
MAX_CHECKED_BYTES = 2**36
"""Of a file to check: the KV cache of the longest prompt of a 2B model in f32. A sparse file may have any size."""


def make_folder(folder: Path) -> None:
    """Create a cache folder, and the one around it, for this user alone whatever the umask is. Raises OSError."""
    for path in (folder.parent, folder):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_checked(path: Path, pieces: Sequence[bytes | memoryview]) -> None:
    """Write a file atomically, followed by the SHA-256 of its content. Raises OSError."""
    descriptor, name = tempfile.mkstemp(PARTIAL, "", path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # tells ``remove_partial`` that the writer is alive
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


def read_checked(path: Path, limit: int) -> Bytes:
    """Read a file of ``write_checked``.

    Raises:
        OSError: It cannot be read, is not a regular file, or has more than ``limit`` bytes.
        ValueError: It is damaged.
    """
    with os.fdopen(open_regular(path, limit, follow=False), "rb") as file:
        content = np.fromfile(file, np.uint8)
    body, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:].tobytes()
    if hashlib.sha256(body.data).digest() != checksum:
        raise ValueError("the checksum is wrong")
    return body


def check(path: Path) -> None:
    """Check a file of ``write_checked`` without keeping its content in memory. Raises as ``read_checked``."""
    with os.fdopen(open_regular(path, MAX_CHECKED_BYTES, follow=False), "rb") as file:
        left, digest = os.fstat(file.fileno()).st_size - CHECKSUM_BYTES, hashlib.sha256()
        while left > 0 and (piece := file.read(min(left, READ_BYTES))):
            digest.update(piece)
            left -= len(piece)
        if left or file.read(CHECKSUM_BYTES + 1) != digest.digest():
            raise ValueError("the checksum is wrong")


def write_cached(path: Path, content: bytes) -> None:
    """Write a file of the cache atomically; creates its folder and removes partial files there. Raises OSError."""
    make_folder(path.parent)
    remove_partial(path.parent)
    write_atomic(path, content)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically, without a checksum. Raises OSError."""
    descriptor, name = tempfile.mkstemp(PARTIAL, "", path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # tells ``remove_partial`` that the writer is alive
            file.write(content)
            file.flush()
            part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def touch(path: Path) -> None:
    """Mark a file as used now, for ``evict``."""
    with contextlib.suppress(OSError):
        os.utime(path)


def remove(path: Path) -> None:
    """Remove a file if possible; another process may have removed it already."""
    with contextlib.suppress(OSError):
        path.unlink()


def evict(paths: Iterable[Path], limit: int) -> None:
    """Remove the least recently used files until the rest take at most ``limit`` bytes."""
    files = []
    for path in paths:
        with contextlib.suppress(OSError):  # another process removed it
            status = path.lstat()
            files.append((status.st_mtime_ns, status.st_size, path))
    excess = sum(size for _, size, _ in files) - limit
    for _, size, path in sorted(files):
        if excess <= 0:
            return
        remove(path)
        excess -= size


def keep_newest(paths: Iterable[Path], count: int) -> None:
    """Remove the least recently used files beyond ``count``."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):  # another process removed it
            found.append((path.lstat().st_mtime_ns, path))
    for _, path in sorted(found)[: max(0, len(found) - count)]:
        remove(path)


def remove_partial(folder: Path) -> None:
    """Remove partial files of processes that have ended; other files may lie there, if the folder is a link."""
    for path in folder.glob(f"*{PARTIAL}"):
        with contextlib.suppress(OSError):
            if PARTIAL_NAME.fullmatch(path.name) and is_abandoned(path):
                path.unlink()


def is_abandoned(path: Path) -> bool:
    """Return whether the process that wrote a partial file has ended. Raises OSError."""
    with os.fdopen(open_regular(path, sys.maxsize, follow=False), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
