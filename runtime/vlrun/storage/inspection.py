"""Inspects the cache folder: what lies there, whether it is intact, and removal."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlrun.storage import cache_paths, files
from vlrun.storage.regular_files import read_regular

CHECKED = frozenset((".kv", ".blob"))
"""Suffixes of files that end with their checksum."""
MAX_JSON_BYTES = 1 << 20


@dataclass(frozen=True)
class CacheUsage:
    """One kind of cached data: its folder, files and bytes."""

    kind: str
    folder: Path
    files: int
    nbytes: int


def usage() -> list[CacheUsage]:
    """Return the files and bytes of every kind."""
    found = []
    for kind in cache_paths.KINDS:
        folder = cache_paths.folder() / kind
        sizes = []
        for path in _entries(folder):
            with contextlib.suppress(OSError):  # another process removed it
                sizes.append(path.lstat().st_size)
        found.append(CacheUsage(kind, folder, len(sizes), sum(sizes)))
    return found


def damaged(kind: str) -> Iterator[tuple[Path, str]]:
    """Yield the files of one kind that cannot be used, each with the reason. Reads all of them."""
    for path in _entries(cache_paths.folder() / kind):
        try:
            reason = _damage(path)
        except FileNotFoundError:  # another process removed it
            continue
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            yield path, reason


def remove(path: Path) -> bool:
    """Remove a file, or a folder that has no business in the cache. Return whether it is gone."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return not os.path.lexists(path)


def clear(kind: str) -> int:
    """Remove all data of one kind and return the number of files that could not be removed."""
    return sum(not remove(path) for path in _entries(cache_paths.folder() / kind))


def _damage(path: Path) -> str | None:
    """Return why a file cannot be used, or None. Raises OSError."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_uid not in (os.geteuid(), 0):
        return "it belongs to another user"
    if path.suffix == files.PARTIAL:
        return "it was left by a process that ended" if files.is_abandoned(path) else None
    try:
        if path.suffix in CHECKED:
            files.read_checked(path, sys.maxsize)
        elif path.suffix == ".json":
            json.loads(read_regular(path, MAX_JSON_BYTES, follow=False))
    except (ValueError, RecursionError):
        return "its content is damaged"
    return None


def _entries(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(folder.iterdir())
    return []
