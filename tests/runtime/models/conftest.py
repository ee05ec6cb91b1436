"""A disk that is really full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest


@dataclass(frozen=True)
class SmallDisk:
    """A file system of 1 MiB."""

    folder: Path

    def enlarge(self) -> None:
        """Make room."""
        subprocess.run(["mount", "-o", "remount,size=16m", os.fspath(self.folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    """A small disk that promises more, as one that other programs fill after its space was checked."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", os.fspath(folder)]
    if (
        os.geteuid()
        or not shutil.which("mount")
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("only root may mount a small disk")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", os.fspath(folder)], check=True)
