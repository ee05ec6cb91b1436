"""Inspects the cache folder: what lies there, whether it is intact, and removal.

Only files with names that vlrun gives are ever removed: a folder of the cache may be a link to one with other files.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vlrun.storage import cache_paths, files
from vlrun.storage.cache_paths import HISTORY
from vlrun.storage.regular_files import read_regular

CHECKED = frozenset((".kv", ".blob", ".manifest", ".vocab"))
"""Suffixes of files that end with their checksum."""
MAX_JSON_BYTES = 1 << 20
_PARTIAL = files.PARTIAL_NAME.pattern
_JSON = re.compile(rf"[0-9a-f]{{32}}\.json|{_PARTIAL}")
NAMES: Mapping[str, re.Pattern[str]] = {
    "prefixes": re.compile(rf"[0-9a-f]{{16}}-[0-9a-f]{{64}}\.kv|{_PARTIAL}"),
    "compiled": re.compile(rf"[0-9a-f]{{64}}\.(blob|refused)|{_PARTIAL}"),
    "devices": re.compile(rf"{_JSON.pattern}|[0-9a-f]{{32}}\.trying"),
    "verified": re.compile(r"[0-9a-f]{64}"),
    "described": re.compile(rf"[0-9a-f]{{64}}\.manifest|{_PARTIAL}"),
    "tuned": _JSON,
    "probed": _JSON,
    "speed": _JSON,
    "vocabulary": re.compile(rf"[0-9a-f]{{64}}\.vocab|{_PARTIAL}"),
    HISTORY: re.compile(HISTORY),
}
"""Names of the files that vlrun writes, by kind; those of partial files come from ``tempfile``."""


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
    for kind in (*cache_paths.KINDS, HISTORY):
        sizes = []
        for path in _written(kind):
            with contextlib.suppress(OSError):  # another process removed it
                sizes.append(path.lstat().st_size)
        found.append(CacheUsage(kind, cache_paths.folder() / kind, len(sizes), sum(sizes)))
    return found


def damaged(kind: str) -> Iterator[tuple[Path, str]]:
    """Yield the files of one kind that cannot be used, each with the reason. Reads all of them."""
    for path in _written(kind):
        try:
            reason = _damage(path)
        except FileNotFoundError:  # another process removed it
            continue
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            yield path, reason


def foreign(kind: str) -> list[Path]:
    """Return what lies in the folder of one kind although vlrun did not write it."""
    return [path for path in _entries(kind) if not _is_written(kind, path)]


def remove(path: Path) -> bool:
    """Remove a file. Return whether it is gone."""
    with contextlib.suppress(OSError):
        path.unlink()
    return not os.path.lexists(path)


def clear(kind: str) -> int:
    """Remove all data of one kind and return the number of files that could not be removed."""
    return sum(not remove(path) for path in _written(kind))


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
            files.check(path)
        elif path.suffix == ".json":
            json.loads(read_regular(path, MAX_JSON_BYTES, follow=False))
    except (ValueError, RecursionError):
        return "its content is damaged"
    return None


def _written(kind: str) -> list[Path]:
    return [path for path in _entries(kind) if _is_written(kind, path)]


def _is_written(kind: str, path: Path) -> bool:
    return bool(NAMES[kind].fullmatch(path.name)) and (path.is_symlink() or not path.is_dir())


def _entries(kind: str) -> list[Path]:
    path = cache_paths.folder() / kind
    if kind == HISTORY:
        return [path] if os.path.lexists(path) else []
    with contextlib.suppress(OSError):
        return sorted(path.iterdir())
    return []
