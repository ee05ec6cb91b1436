"""Opens regular files of bounded size.

A FIFO blocks whoever opens it, a device such as /dev/zero never ends, and a sparse file of a terabyte takes no disk. So
every file that others may have made is opened here, before anything is read.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

READ_BYTES = 1 << 20


def open_regular(path: str | Path, limit: int, *, follow: bool = True, folder: int | None = None) -> int:
    """Open a regular file for reading and return its descriptor, without ever blocking.

    Args:
        path: The file.
        limit: Maximum size in bytes.
        follow: Whether the last part of the path may be a symbolic link.
        folder: Descriptor of the folder that a relative path starts in.

    Raises:
        OSError: It cannot be opened, is not a regular file, or is larger; ``strerror`` says which.
        ValueError: The path contains a NUL character.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, the limit is {limit:,}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_regular(path: str | Path, limit: int, *, follow: bool = True, folder: int | None = None) -> bytes:
    """Read a regular file of at most ``limit`` bytes. Raises as ``open_regular``."""
    descriptor = open_regular(path, limit, follow=follow, folder=folder)
    try:
        return read_descriptor(descriptor, limit)
    finally:
        os.close(descriptor)


def read_descriptor(descriptor: int, limit: int) -> bytes:
    """Read an opened file from its start; its position does not move. Raises OSError if it has more than ``limit``."""
    content = bytearray()
    while piece := os.pread(descriptor, READ_BYTES, len(content)):
        content += piece
        if len(content) > limit:  # it grew since it was opened
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes, the limit")
    return bytes(content)
