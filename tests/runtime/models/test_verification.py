"""Verification of a model folder's hashes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.runtime.model_folders import write_model_folder
from vlrun import manifest as manifests
from vlrun.errors import DamagedModel
from vlrun.models.verification import verify


@pytest.mark.fault(36)
def test_hashes_are_checked_once_on_demand_and_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that keeps the file's size and time is only found on demand."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_model_folder(tmp_path / "model")
    manifest = manifests.read(folder)
    verify(manifest, folder)
    changed = folder / "decoder.bin"
    status = changed.stat()
    changed.write_text("X" + changed.read_text()[1:])
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    verify(manifest, folder)
    with pytest.raises(DamagedModel, match=r"decoder\.bin"):
        verify(manifest, folder, again=True)
    os.utime(changed)
    with pytest.raises(DamagedModel, match=r"decoder\.bin"):
        verify(manifest, folder)
