"""Tells which models of the store are loaded: each process that loads one holds a shared lock on its source file."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from vlrun.models.store.source import SOURCE


def hold(directory: int) -> int | None:
    """Lock a model folder as used while the returned descriptor is open; None if it is not of the store.

    Args:
        directory: Descriptor of the folder.
    """
    try:
        descriptor = os.open(SOURCE, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=directory)
    except OSError:
        return None
    with contextlib.suppress(OSError):  # a file system without locks, or a removal that has begun
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return descriptor


def is_used(folder: Path) -> bool:
    """Return whether a process has loaded the model in a folder of the store."""
    try:
        descriptor = os.open(folder / SOURCE, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False
