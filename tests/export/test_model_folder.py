"""A model folder is written completely or not at all."""

from __future__ import annotations

import dataclasses
import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.model_folders import make_manifest, write_model_folder
from vlrun import manifest
from vlrun.errors import OutputError
from vlrun.storage.exchange import exchange
from vlrun_export import model_folder
from vlrun_export.export import export_checkpoint
from vlrun_export.model_folder import atomic_folder, check_apart


def write_model(out: Path, name: str, force: bool = False) -> None:
    with atomic_folder(out, force) as folder:
        for required in manifest.REQUIRED:
            (folder / required).write_text(name)
        files = {required: manifest.describe_file(folder / required) for required in manifest.REQUIRED}
        manifest.write(dataclasses.replace(make_manifest(files), name=name), folder)


def name_of(out: Path) -> str:
    return manifest.read(out).name


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
def test_a_disk_that_fills_while_openvino_writes_is_reported(tmp_path: Path, tied_checkpoint: Path) -> None:
    """OpenVINO raises a bare RuntimeError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(OutputError, match=r"vision\.xml: is the disk full"):
            export_checkpoint(tied_checkpoint, tmp_path / "out", weights="fp32", vision="fp32", check=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


EXPORTING_SCRIPT = """
import os, signal, sys
from pathlib import Path
from vlrun_export.model_folder import atomic_folder, check_apart
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
    assert name_of(tmp_path / "out") == "first"


def test_similarly_named_folders_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / ".out.notmine1.old"
    other.mkdir()
    (other / "file").touch()
    empty = tmp_path / ".out.01234567.old"
    empty.mkdir()
    write_model(tmp_path / "out", "first")
    assert (other / "file").exists()
    assert name_of(tmp_path / "out") == "first"


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    write_model(tmp_path / "out", "first")
    with pytest.raises(OutputError, match="--force"):
        write_model(tmp_path / "out", "second")
    assert name_of(tmp_path / "out") == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_replaced_model_is_never_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a service that restarts in the middle of an export, or a power cut between two renames."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    if not exchange(one, other):
        pytest.skip("this file system cannot exchange folders")
    write_model(tmp_path / "out", "first")
    rename = Path.rename

    def watched(path: Path, target: Path) -> Path:
        renamed = rename(path, target)
        assert name_of(tmp_path / "out") == "second"
        return renamed

    monkeypatch.setattr(Path, "rename", watched)
    write_model(tmp_path / "out", "second", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other", "out"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_force_replaces_a_model(exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchanges:
        monkeypatch.setattr(model_folder, "exchange", lambda *_: False)
    write_model(tmp_path / "out", "first")
    write_model(tmp_path / "out", "second", force=True)
    assert name_of(tmp_path / "out") == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_keeps_the_old_model_after_an_error(tmp_path: Path) -> None:
    write_model(tmp_path / "out", "first")
    with pytest.raises(ValueError, match="fault"):
        write_and_fail(tmp_path / "out", ValueError("fault"), force=True)
    assert name_of(tmp_path / "out") == "first"


def test_force_restores_the_old_model_if_the_second_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_folder, "exchange", lambda *_: False)
    write_model(tmp_path / "out", "first")
    rename = Path.rename

    def fail_for_the_new_model(path: Path, target: Path) -> Path:
        if path.name.endswith(".part"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_model)
    with pytest.raises(OutputError, match="Input/output error"):
        write_model(tmp_path / "out", "second", force=True)
    assert name_of(tmp_path / "out") == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def no_manifest(folder: Path) -> None:
    (folder / "thesis.odt").touch()


def foreign_manifest(folder: Path) -> None:
    """Many programs have a file of this name, browser extensions for example."""
    (folder / manifest.MANIFEST).write_text('{"format": 1, "family": "qwen3-vl", "manifest_version": 3}')


def foreign_file(folder: Path) -> None:
    folder.rmdir()
    write_model_folder(folder)
    (folder / "notes.txt").touch()


def link_in_a_model(folder: Path) -> None:
    folder.rmdir()
    write_model_folder(folder)
    (folder / manifest.TOKENIZER).unlink()
    (folder / manifest.TOKENIZER).symlink_to(folder.parent / "elsewhere")


def only_a_folder(folder: Path) -> None:
    (folder / "documents").mkdir()


@pytest.mark.parametrize("fill", [no_manifest, foreign_manifest, foreign_file, link_in_a_model, only_a_folder])
@pytest.mark.parametrize("force", [False, True])
def test_a_folder_with_anything_that_no_export_wrote_is_never_replaced(
    tmp_path: Path, fill: Callable[[Path], object], force: bool
) -> None:
    """Guards a mistyped path: any folder with a file named manifest.json was deleted."""
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="is not a model folder" if force else "already exists"):
        write_model(tmp_path / "out", "model", force)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("force", [False, True])
def test_an_empty_folder_is_filled(tmp_path: Path, force: bool) -> None:
    (tmp_path / "out").mkdir()
    write_model(tmp_path / "out", "model", force)
    assert name_of(tmp_path / "out") == "model"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_appears_during_the_export_survives(tmp_path: Path) -> None:
    write_model(tmp_path / "out", "first")
    with (
        pytest.raises(OutputError, match=r"no export wrote its notes\.txt"),
        atomic_folder(tmp_path / "out", force=True),
    ):
        (tmp_path / "out" / "notes.txt").touch()
    assert name_of(tmp_path / "out") == "first"
    assert (tmp_path / "out" / "notes.txt").exists()


@pytest.mark.parametrize(
    "out", ["checkpoint", "checkpoint/model", ".", "link", "link/model", "checkpoint/../checkpoint"]
)
def test_a_target_that_overlaps_with_the_checkpoint_is_refused(tmp_path: Path, out: str) -> None:
    """Guards ``vlrun export --force CHECKPOINT CHECKPOINT``."""
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "link").symlink_to("checkpoint")
    with pytest.raises(OutputError, match="overlap"):
        export_checkpoint(tmp_path / "checkpoint", tmp_path / out, force=True)
    check_apart(tmp_path / "checkpoint-int8", tmp_path / "checkpoint")


def test_a_missing_parent_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        write_model(tmp_path / "no" / "out", "model")


def test_the_folder_has_default_permissions(tmp_path: Path) -> None:
    write_model(tmp_path / "out", "model")
    (tmp_path / "ordinary").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
