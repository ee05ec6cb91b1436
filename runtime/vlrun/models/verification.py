"""Verification of a model folder: file hashes are checked once per machine, and again when a file changes.

A record in the user's cache folder says that the check passed. Its name is a hash of the manifest and of the stamp of
every file. If no record can be written, every load checks the hashes.
"""

from __future__ import annotations

import contextlib
import hashlib

from vlrun.models.model_folder import ModelFolder
from vlrun.storage import cache_paths, files

MAX_RECORDS = 100
"""Records that are kept, those of the models used last; a model whose record is gone is checked again."""


def verify(folder: ModelFolder, *, again: bool = False) -> None:
    """Check the hashes of all files if they changed since the last check, or ``again`` is true.

    A folder without a manifest was hashed when it was described (``ready_folder``).

    Raises:
        DamagedModel: A file is not the one that was exported, or changed during the check.
    """
    if not (folder.has_manifest or again):
        return
    record = cache_paths.verified_models() / _state(folder)
    with contextlib.suppress(OSError):  # an unreadable cache folder
        if record.exists() and not again:
            files.touch(record)
            return
    folder.check_hashes()
    folder.check_unchanged()
    with contextlib.suppress(OSError):
        files.make_folder(record.parent)
        record.touch()
        files.keep_newest(record.parent.iterdir(), MAX_RECORDS)


def _state(folder: ModelFolder) -> str:
    digest = hashlib.sha256(folder.fingerprint.encode())
    for name, stamp in sorted(folder.stamps.items()):
        digest.update(f"{name} {stamp}\n".encode())
    return digest.hexdigest()
