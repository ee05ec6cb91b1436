"""Paths of everything that vlrun keeps in the user's cache folder."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def prefix_store() -> Path:
    """Folder of the prefix store: KV cache blocks of image prefixes."""
    return _cache() / "prefixes"


def compiled_models() -> Path:
    """Folder of compiled models."""
    return _cache() / "compiled"


def verified_models() -> Path:
    """Folder of stamps for verified model folders."""
    return _cache() / "verified"


def tuned_hints() -> Path:
    """Folder of the results of ``vlrun tune``."""
    return _cache() / "tuned"


def probed_hints() -> Path:
    """Folder of the measurements that choose OpenVINO properties."""
    return _cache() / "probed"


def speed_profiles() -> Path:
    """Folder of measured speeds."""
    return _cache() / "speed"


def chat_history() -> Path:
    """File of the input history of ``vlrun chat``."""
    return _cache() / "chat_history"


def _cache() -> Path:
    return platformdirs.user_cache_path("vlrun")
