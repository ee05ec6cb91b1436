"""Paths of everything that vlrun keeps in the user's cache folder.

Compiled models are code, and stored prefixes decide answers. So a cache folder that belongs to another user, or that
everyone may write to, is not used.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

UNUSABLE = Path(os.devnull) / "vlrun"
"""Takes the place of a folder that must not be used: reading and writing there fails, as on a read-only disk."""
KINDS: Mapping[str, str] = {
    "prefixes": "KV cache of images",
    "compiled": "models compiled for a GPU",
    "devices": "comparisons of a GPU with the CPU",
    "verified": "model folders whose hashes were checked",
    "described": "descriptions of model folders without a manifest",
    "tuned": "results of vlrun tune",
    "probed": "measurements that choose OpenVINO properties",
    "speed": "measured times",
    "vocabulary": "token bytes for schemas",
}
"""Folders of cached data, and what they hold."""
HISTORY = "chat_history"
"""The one file beside them, which cannot be computed again."""


def prefix_store() -> Path:
    """Folder of the prefix store: KV cache blocks of image prefixes."""
    return _usable("prefixes")


def compiled_models() -> Path:
    """Folder of compiled models."""
    return _usable("compiled")


def device_checks() -> Path:
    """Folder of the results of comparing GPUs with the CPU."""
    return _usable("devices")


def verified_models() -> Path:
    """Folder of records of verified model folders."""
    return _usable("verified")


def described_folders() -> Path:
    """Folder of the descriptions of model folders without a manifest."""
    return _usable("described")


def tuned_hints() -> Path:
    """Folder of the results of ``vlrun tune``."""
    return _usable("tuned")


def probed_hints() -> Path:
    """Folder of the measurements that choose OpenVINO properties."""
    return _usable("probed")


def speed_profiles() -> Path:
    """Folder of measured speeds."""
    return _usable("speed")


def vocabularies() -> Path:
    """Folder of the token bytes of tokenizers."""
    return _usable("vocabulary")


def chat_history() -> Path:
    """File of the input history of ``vlrun chat``."""
    return _usable(HISTORY)


def folder() -> Path:
    """Return the user's cache folder, whether it can be used or not; without a home directory, one that cannot be."""
    import platformdirs

    try:
        return platformdirs.user_cache_path("vlrun")
    except RuntimeError:
        return UNUSABLE


def has_home() -> bool:
    """Return whether there is a place for caches: a home directory, or XDG_CACHE_HOME."""
    return folder() != UNUSABLE


def distrusted() -> tuple[str, ...]:
    """Return why folders are not used; nothing if all can be used."""
    return tuple(dict.fromkeys(problem for kind in KINDS for problem in _problems(folder() / kind)))


def _usable(kind: str) -> Path:
    path = folder() / kind
    return UNUSABLE / kind if any(_problems(path)) else path


def _problems(path: Path) -> Iterator[str]:
    """Yield why the folder above a path, or the path itself, is not used. One that does not exist yet is no problem."""
    for checked in (path.parent, path):
        with contextlib.suppress(OSError):
            status = checked.stat()
            if status.st_uid not in (os.geteuid(), 0):
                yield f"the cache folder '{checked}' belongs to another user: it is not used"
            elif status.st_mode & stat.S_IWOTH:
                yield f"everyone may write to the cache folder '{checked}': it is not used until 'chmod o-w'"
