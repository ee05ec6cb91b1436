"""Folders that change places in one step."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import pytest

from vlrun.storage.exchange import exchange


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    return tmp_path / "one", tmp_path / "other"


def test_two_folders_change_places(folders: tuple[Path, Path]) -> None:
    if not exchange(*folders):
        pytest.skip("this file system cannot exchange folders")
    assert [[path.name for path in folder.iterdir()] for folder in folders] == [["other"], ["one"]]


def test_nothing_changes_if_one_is_missing(folders: tuple[Path, Path], tmp_path: Path) -> None:
    assert not exchange(folders[0], tmp_path / "missing")
    assert (folders[0] / "one").exists()


def test_a_c_library_without_it(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    assert not exchange(*folders)
    assert (folders[0] / "one").exists()
