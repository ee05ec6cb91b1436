"""Verification of a model folder: file hashes are checked once per machine, and again when a file changes.

A stamp in the user's cache folder records the check. Its name is a hash of the manifest and of the size, time and inode
of every file. If no stamp can be written, every load checks the hashes.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from vlrun.manifest import Manifest, check_hashes, check_sizes, fingerprint
from vlrun.storage import cache_paths


def verify(manifest: Manifest, folder: Path, *, again: bool = False) -> None:
    """Check names and sizes of the files, and the hashes if they changed since the last check or ``again`` is true.

    Raises:
        DamagedModel: A file is missing or was changed.
    """
    check_sizes(manifest, folder)
    stamp = cache_paths.verified_models() / _state(manifest, folder)
    with contextlib.suppress(OSError):  # an unreadable cache folder
        if stamp.exists() and not again:
            return
    check_hashes(manifest, folder)
    with contextlib.suppress(OSError):
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()


def _state(manifest: Manifest, folder: Path) -> str:
    digest = hashlib.sha256(fingerprint(folder).encode())
    for name in sorted(manifest.files):
        status = (folder / name).stat()
        digest.update(f"{name} {status.st_size} {status.st_mtime_ns} {status.st_ino}\n".encode())
    return digest.hexdigest()
