"""Verification of a model folder's hashes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.runtime.model_folders import write_model_folder
from vlrun.errors import DamagedModel
from vlrun.models import verification
from vlrun.models.model_folder import ModelFolder
from vlrun.models.verification import verify


@pytest.mark.fault(36)
@pytest.mark.parametrize("restore_times", [False, True])
def test_hashes_are_checked_once_and_again_after_any_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, restore_times: bool
) -> None:
    """Guards a change that keeps the file's size and its modification time, as rsync and cp --preserve can make."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_model_folder(tmp_path / "model")
    verify(ModelFolder(folder))
    with monkeypatch.context() as patched:
        patched.setattr(ModelFolder, "check_hashes", lambda _: pytest.fail("checked again"))
        verify(ModelFolder(folder))
    changed = folder / "decoder.bin"
    status = changed.stat()
    changed.write_text("X" + changed.read_text()[1:])
    if restore_times:
        os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DamagedModel, match=r"decoder\.bin"):
        verify(ModelFolder(folder))


def test_only_the_records_used_last_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each change of a folder left a record for ever."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(verification, "MAX_RECORDS", 2)
    model = ModelFolder(write_model_folder(tmp_path / "model"))
    verify(model)
    records = tmp_path / "vlrun" / "verified"
    (own,) = records.iterdir()
    for number in range(3):
        (records / (str(number) * 64)).touch()
    os.utime(own, (0, 0))
    verify(model)  # marks its record as used
    verify(model, again=True)
    assert own in list(records.iterdir())
    assert len(list(records.iterdir())) == 2
