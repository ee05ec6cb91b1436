"""Verification of a model folder: hashes are checked once on each machine, and again when a file changes.

A stamp in the user's cache folder records the check. Its name depends on the manifest's hash and on the size, time and
inode of every file. If no stamp can be written, the hashes are checked at every load.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from vlrun.manifest import Manifest, check_hashes, check_sizes, fingerprint
from vlrun.storage import cache_paths


def verify(manifest: Manifest, folder: Path, *, again: bool = False) -> None:
    """Check names and sizes, and the hashes if this state of the folder was never checked or ``again`` is true.

    Raises:
        DamagedModel: A file is missing or was changed.
    """
    check_sizes(manifest, folder)
    stamp = cache_paths.verified_models() / _state(manifest, folder)
    with contextlib.suppress(OSError):  # an unreadable home only costs a check at each load
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
