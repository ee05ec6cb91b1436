"""Paths of everything that vlrun keeps in the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

UNUSABLE = Path(os.devnull) / "vlrun"
"""A folder that cannot exist: reading and writing in it raise OSError, as in a folder without permission."""


def prefix_store() -> Path:
    """Folder of the prefix store: KV cache blocks of image prefixes."""
    return folder() / "prefixes"


def compiled_models() -> Path:
    """Folder of compiled models."""
    return folder() / "compiled"


def verified_models() -> Path:
    """Folder of stamps for verified model folders."""
    return folder() / "verified"


def tuned_hints() -> Path:
    """Folder of the results of ``vlrun tune``."""
    return folder() / "tuned"


def speed_profiles() -> Path:
    """Folder of measured speeds."""
    return folder() / "speed"


def chat_history() -> Path:
    """File of the input history of ``vlrun chat``."""
    return folder() / "chat_history"


def folder() -> Path:
    """Return the user's cache folder; one that cannot be used if the user has no home directory."""
    try:
        return platformdirs.user_cache_path("vlrun")
    except RuntimeError:
        return UNUSABLE


def has_home() -> bool:
    """Return whether there is a place for caches: a home directory, or XDG_CACHE_HOME."""
    return folder() != UNUSABLE
