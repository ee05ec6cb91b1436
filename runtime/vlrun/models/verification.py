"""Hashes of a model folder are checked once on this machine, and again when a file changes.

A stamp in the user's cache folder remembers the check; it is named after the manifest's own hash and after size, time
and inode of every file. Where no stamp can be written, the hashes are checked at every load. Knows files, no models.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from vlrun.manifest import Manifest, check_hashes, check_sizes, fingerprint
from vlrun.storage import cache_paths


def verify(manifest: Manifest, folder: Path, *, again: bool = False) -> None:
    """Check names and sizes, and the hashes if this state of the folder was not checked before or ``again`` is true.

    Raises DamagedModel.
    """
    check_sizes(manifest, folder)
    stamp = cache_paths.verified_models() / _state(manifest, folder)
    with contextlib.suppress(OSError):  # a home that cannot be read or written costs a check at each load, no more
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
