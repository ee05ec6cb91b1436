"""All cache paths are built in one module."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.paths import RUNTIME
from vlrun.storage import cache_paths

FOLDERS = {
    cache_paths.prefix_store: "prefixes",
    cache_paths.compiled_models: "compiled",
    cache_paths.device_checks: "devices",
    cache_paths.verified_models: "verified",
    cache_paths.described_folders: "described",
    cache_paths.tuned_hints: "tuned",
    cache_paths.probed_hints: "probed",
    cache_paths.speed_profiles: "speed",
    cache_paths.vocabularies: "vocabulary",
    cache_paths.chat_history: "chat_history",
}


def test_folder_names_are_unchanged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards caches of earlier versions: renamed folders would be recomputed and never removed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert {path(): name for path, name in FOLDERS.items()} == {
        tmp_path / "vlrun" / name: name for name in FOLDERS.values()
    }


def test_every_folder_is_a_kind_that_vlrun_cache_knows() -> None:
    assert {*FOLDERS.values()} - {"chat_history"} == {*cache_paths.KINDS}


@pytest.mark.fault(47)
@pytest.mark.parametrize("part", [".", "compiled"])
@pytest.mark.parametrize("problem", ["foreign", "world-writable"])
def test_a_folder_that_others_control_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: str, problem: str
) -> None:
    """Guards compiled models, which are code, and prefixes, which decide answers. The owner is simulated."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "vlrun" / "compiled").mkdir(parents=True)
    assert not cache_paths.distrusted()
    if problem == "world-writable":
        (tmp_path / "vlrun" / part).chmod(0o777)
    else:
        real_stat = Path.stat

        def foreign(path: Path, **named: bool) -> os.stat_result:
            status = list(real_stat(path, **named))
            if path == tmp_path / "vlrun" / part:
                status[4] = os.geteuid() + 1
            return os.stat_result(status)

        monkeypatch.setattr(Path, "stat", foreign)
    (note,) = cache_paths.distrusted()
    assert str(tmp_path / "vlrun" / part) in note
    folder = cache_paths.compiled_models()
    assert not folder.is_relative_to(tmp_path)
    assert (cache_paths.prefix_store() == tmp_path / "vlrun" / "prefixes") == (part == "compiled")
    with pytest.raises(OSError):  # noqa: PT011 - all that its users expect
        folder.mkdir(parents=True, exist_ok=True)
    assert not folder.exists()
    assert not list(folder.glob("*"))


def test_a_group_and_root_are_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards systems on which every user has a group, and a cache folder made with sudo."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "vlrun").mkdir()
    (tmp_path / "vlrun").chmod(0o775)
    owner = (tmp_path / "vlrun").stat().st_uid
    for user in {owner, owner + 1 if owner == 0 else owner}:
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        assert not cache_paths.distrusted()


def test_no_other_module_looks_up_the_cache_folder() -> None:
    users = [path.relative_to(RUNTIME) for path in RUNTIME.rglob("*.py") if "user_cache_" in path.read_text("utf-8")]
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
