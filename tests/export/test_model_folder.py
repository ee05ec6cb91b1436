"""A model folder is complete or absent: after errors, Ctrl+C, a full disk, and with --force."""

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
        (folder / "decoder.bin").write_bytes(b"half")
        raise fault


@pytest.mark.fault(38)
@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_a_fault(tmp_path: Path, fault: type[BaseException]) -> None:
    """Guards half-written models: also Ctrl+C cleans up."""
    with pytest.raises(fault):
        write_and_fail(tmp_path / "out", fault())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(38)
def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """Guards the message: no stack trace, and nothing left behind."""
    with pytest.raises(OutputError, match="No space left on device"):
        write_and_fail(tmp_path / "out", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(38)
def test_disk_fills_while_openvino_writes(tmp_path: Path, small_checkpoint: Path) -> None:
    """Guards the large files: OpenVINO reports a failed write only as a bare RuntimeError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(OutputError, match=r"vision\.xml: is the disk full"):
            export_checkpoint(small_checkpoint, tmp_path / "out", weights="fp32", vision="fp32", check=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from vlrun_export.model_folder import atomic_folder
with atomic_folder(Path(sys.argv[1]), force=True) as folder:
    (folder / "decoder.bin").write_bytes(b"half")
    print("writing", flush=True)
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == "dies" else sys.stdin.read()
"""


@pytest.mark.fault(39)
def test_what_a_kill_left_goes_with_the_next_try(tmp_path: Path) -> None:
    """Guards the disk against incomplete models of gigabytes, and a running export against the clean-up."""
    out, command = tmp_path / "o[u]t", [sys.executable, "-c", KILLED]
    assert subprocess.run([*command, out, "dies"], stdout=subprocess.PIPE, check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    with subprocess.Popen([*command, out, "waits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin
        assert running.stdout
        assert running.stdout.readline() == b"writing\n"
        assert not left.exists()
        (busy,) = tmp_path.iterdir()
        write_model(out, "second")
        assert set(tmp_path.iterdir()) == {out, busy}
        running.stdin.close()
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.fault(39)
def test_an_old_model_comes_back_after_a_power_cut(tmp_path: Path) -> None:
    """Guards --force: between its two renames, the old model is aside and must not be lost."""
    write_model(tmp_path / "out", "first")
    (tmp_path / "out").rename(tmp_path / ".out.01234567.old")
    with pytest.raises(OutputError, match="--force"):
        write_model(tmp_path / "out", "second")
    assert (tmp_path / "out" / MANIFEST).read_text() == "first"


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    """Guards a user's own hidden folders with names that only look like ours."""
    mine = tmp_path / ".out.notmine1.old"
    mine.mkdir()
    (mine / "precious").touch()
    empty = tmp_path / ".out.01234567.old"
    empty.mkdir()
    write_model(tmp_path / "out", "first")
    assert (mine / "precious").exists()
    assert (tmp_path / "out" / MANIFEST).read_text() == "first"


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    """Guards finished models against a repeated command, before any work is done."""
    write_model(tmp_path / "out", "first")
    with pytest.raises(OutputError, match="--force"):
        write_model(tmp_path / "out", "second")
    assert (tmp_path / "out" / MANIFEST).read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_replaces_a_model(tmp_path: Path) -> None:
    """Guards --force: the new one is there, the old one and its files are gone."""
    write_model(tmp_path / "out", "first")
    (tmp_path / "out" / "stale").touch()
    write_model(tmp_path / "out", "second", force=True)
    assert (tmp_path / "out" / MANIFEST).read_text() == "second"
    assert [path.name for path in tmp_path.rglob("*")] == ["out", MANIFEST]


def test_force_keeps_the_old_model_on_a_fault(tmp_path: Path) -> None:
    """Guards --force: a failed export must not cost the old model."""
    write_model(tmp_path / "out", "first")
    with pytest.raises(ValueError, match="fault"):
        write_and_fail(tmp_path / "out", ValueError("fault"), force=True)
    assert (tmp_path / "out" / MANIFEST).read_text() == "first"


def test_force_puts_the_old_model_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the swap: if the second rename fails, the first is undone."""
    write_model(tmp_path / "out", "first")
    rename = Path.rename

    def fail_for_the_new(path: Path, target: Path) -> Path:
        if path.name.endswith(".part"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OutputError, match="Input/output error"):
        write_model(tmp_path / "out", "second", force=True)
    assert (tmp_path / "out" / MANIFEST).read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_spares_what_is_no_model(tmp_path: Path) -> None:
    """Guards home directories: --force replaces models only."""
    (tmp_path / "letters.txt").touch()
    with pytest.raises(OutputError, match="not a model folder"):
        write_model(tmp_path, "model", force=True)
    assert (tmp_path / "letters.txt").exists()


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    """Guards typing errors in a path: no folders are made on the way."""
    with pytest.raises(OutputError, match="there is no folder"):
        write_model(tmp_path / "no" / "out", "model")


def test_others_may_read_the_model(tmp_path: Path) -> None:
    """Guards shared machines: the folder has the permissions of an ordinary new folder."""
    write_model(tmp_path / "out", "model")
    (tmp_path / "ordinary").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
