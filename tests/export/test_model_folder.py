"""A model folder is written completely or not at all."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vlrun.errors import OutputError
from vlrun.manifest import MANIFEST
from vlrun_export.export import export_checkpoint
from vlrun_export.model_folder import atomic_folder


def write_model(out: Path, text: str, force: bool = False) -> None:
    with atomic_folder(out, force) as folder:
        (folder / MANIFEST).write_text(text)


def write_and_fail(out: Path, fault: BaseException, force: bool = False) -> None:
    with atomic_folder(out, force) as folder:
        (folder / "decoder.bin").write_bytes(b"partial")
        raise fault


@pytest.mark.fault(38)
@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_or_ctrl_c_removes_the_partial_folder(tmp_path: Path, fault: type[BaseException]) -> None:
    with pytest.raises(fault):
        write_and_fail(tmp_path / "out", fault())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(38)
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left on device"):
        write_and_fail(tmp_path / "out", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(38)
def test_a_disk_that_fills_while_openvino_writes_is_reported(tmp_path: Path, small_checkpoint: Path) -> None:
    """OpenVINO raises a bare RuntimeError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(OutputError, match=r"vision\.xml: is the disk full"):
            export_checkpoint(small_checkpoint, tmp_path / "out", weights="fp32", vision="fp32", check=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


EXPORTING_SCRIPT = """
import os, signal, sys
from pathlib import Path
from vlrun_export.model_folder import atomic_folder
with atomic_folder(Path(sys.argv[1]), force=True) as folder:
    (folder / "decoder.bin").write_bytes(b"partial")
    print("writing", flush=True)
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == "dies" else sys.stdin.read()
"""


@pytest.mark.fault(39)
def test_folders_of_killed_exports_are_removed_but_not_those_of_running_ones(tmp_path: Path) -> None:
    out, command = tmp_path / "o[u]t", [sys.executable, "-c", EXPORTING_SCRIPT]
    assert subprocess.run([*command, out, "dies"], stdout=subprocess.PIPE, check=False).returncode == -signal.SIGKILL
    (partial,) = tmp_path.iterdir()
    with subprocess.Popen([*command, out, "waits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin
        assert running.stdout
        assert running.stdout.readline() == b"writing\n"
        assert not partial.exists()
        (in_progress,) = tmp_path.iterdir()
        write_model(out, "second")
        assert set(tmp_path.iterdir()) == {out, in_progress}
        running.stdin.close()
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.fault(39)
def test_a_model_moved_aside_by_force_is_restored_after_a_power_cut(tmp_path: Path) -> None:
    write_model(tmp_path / "out", "first")
    (tmp_path / "out").rename(tmp_path / ".out.01234567.old")
    with pytest.raises(OutputError, match="--force"):
        write_model(tmp_path / "out", "second")
    assert (tmp_path / "out" / MANIFEST).read_text() == "first"


def test_similarly_named_folders_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / ".out.notmine1.old"
    other.mkdir()
    (other / "file").touch()
    empty = tmp_path / ".out.01234567.old"
    empty.mkdir()
    write_model(tmp_path / "out", "first")
    assert (other / "file").exists()
    assert (tmp_path / "out" / MANIFEST).read_text() == "first"


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    write_model(tmp_path / "out", "first")
    with pytest.raises(OutputError, match="--force"):
        write_model(tmp_path / "out", "second")
    assert (tmp_path / "out" / MANIFEST).read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_replaces_a_model(tmp_path: Path) -> None:
    write_model(tmp_path / "out", "first")
    (tmp_path / "out" / "stale").touch()
    write_model(tmp_path / "out", "second", force=True)
    assert (tmp_path / "out" / MANIFEST).read_text() == "second"
    assert [path.name for path in tmp_path.rglob("*")] == ["out", MANIFEST]


def test_force_keeps_the_old_model_after_an_error(tmp_path: Path) -> None:
    write_model(tmp_path / "out", "first")
    with pytest.raises(ValueError, match="fault"):
        write_and_fail(tmp_path / "out", ValueError("fault"), force=True)
    assert (tmp_path / "out" / MANIFEST).read_text() == "first"


def test_force_restores_the_old_model_if_the_second_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "out", "first")
    rename = Path.rename

    def fail_for_the_new_model(path: Path, target: Path) -> Path:
        if path.name.endswith(".part"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_model)
    with pytest.raises(OutputError, match="Input/output error"):
        write_model(tmp_path / "out", "second", force=True)
    assert (tmp_path / "out" / MANIFEST).read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_replaces_only_model_folders(tmp_path: Path) -> None:
    """Guards a mistyped path such as the home directory."""
    (tmp_path / "file.txt").touch()
    with pytest.raises(OutputError, match="not a model folder"):
        write_model(tmp_path, "model", force=True)
    assert (tmp_path / "file.txt").exists()


def test_a_missing_parent_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        write_model(tmp_path / "no" / "out", "model")


def test_the_folder_has_default_permissions(tmp_path: Path) -> None:
    write_model(tmp_path / "out", "model")
    (tmp_path / "ordinary").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
