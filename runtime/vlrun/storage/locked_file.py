"""Files that one process appends to, and that another one finds locked."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

from vlrun.errors import OutputError


def append_bytes(file: IO[bytes], content: bytes) -> int:
    """Write content to the end of a file and to the disk, or nothing. Returns its offset. Raises OSError."""
    end = place = file.seek(0, os.SEEK_END)
    try:
        while content:  # not through the buffer, which would keep what does not fit, and write it later
            written = os.pwrite(file.fileno(), content, place)
            content, place = content[written:], place + written
        os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), end)
        raise
    return end


def open_locked(path: Path, name: str) -> IO[bytes]:
    """Open or create a file, locked against other processes. Raises OutputError and OSError."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.path.samestat(os.fstat(file.fileno()), path.stat())  # or it has just been replaced
    except BlockingIOError:
        is_ours = False
    except OSError:  # a file system without locks
        is_ours = True
    if not is_ours:
        file.close()
        raise OutputError(f"another vlrun is writing '{name}': wait for it, or choose another name")
    return file
