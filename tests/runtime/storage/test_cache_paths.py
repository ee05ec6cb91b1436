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


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_directory_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, home: str | None) -> None:
    """An unknown user in a container has none; that was an internal error, also with the disk cache off."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert not cache_paths.has_home()
    for path in FOLDERS:
        with pytest.raises(OSError, match="Not a directory"):
            path().mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert cache_paths.has_home()
