"""All cache paths are built in one module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paths import RUNTIME
from vlrun.storage import cache_paths

FOLDERS = {
    cache_paths.prefix_store: "prefixes",
    cache_paths.compiled_models: "compiled",
    cache_paths.verified_models: "verified",
    cache_paths.tuned_hints: "tuned",
    cache_paths.probed_hints: "probed",
    cache_paths.speed_profiles: "speed",
    cache_paths.chat_history: "chat_history",
}


def test_folder_names_are_unchanged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards caches of earlier versions: renamed folders would be recomputed and never removed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert {path(): name for path, name in FOLDERS.items()} == {
        tmp_path / "vlrun" / name: name for name in FOLDERS.values()
    }


def test_no_other_module_looks_up_the_cache_folder() -> None:
    users = [path.relative_to(RUNTIME) for path in RUNTIME.rglob("*.py") if "platformdirs" in path.read_text("utf-8")]
    assert users == [Path("vlrun/storage/cache_paths.py")]
