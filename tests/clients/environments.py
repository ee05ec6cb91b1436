"""Environments for clients of other projects: made on first use in `.venv/clients` or `$VLRUN_ENV/clients`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.paths import ROOT

INSTALL_SECONDS = 1500
"""The largest clients bring some hundred packages."""

NOT_FOUND = ("Could not find a version", "No matching distribution", "E404", "ENOTFOUND", "ECONNREFUSED", "ETARGET")
"""What pip and npm print for a missing package, and without a network."""


def python_environment(name: str, requirements: Sequence[str]) -> Path:
    """Return the bin folder of a Python environment with the packages. Skips if pip cannot find them."""
    folder = _folder(name)
    wanted = f"{' '.join(requirements)} {Path(sys.executable).resolve()}"
    if not _is_made(folder, wanted):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        into = ["--python", str(folder / "bin" / "python")]
        pip = [*_pip(), *into, "install", "--quiet", "--no-compile", *requirements]
        _install(pip, folder, wanted)
    return folder / "bin"


def node_environment(name: str, packages: Sequence[str]) -> Path:
    """Return a folder with the npm packages. Skips if there is no Node, or npm cannot find them."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("Node is not installed")
    folder = _folder(name)
    wanted = " ".join(packages)
    if not _is_made(folder, wanted):
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
        npm = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", "--ignore-scripts"]
        _install([*npm, *packages], folder, wanted)
    return folder


def _folder(name: str) -> Path:
    return Path(os.environ.get("VLRUN_ENV", ROOT / ".venv")) / "clients" / name


def _is_made(folder: Path, wanted: str) -> bool:
    """Whether the environment is complete. Removes one that is not."""
    done = folder / "made-for"
    if done.exists() and done.read_text() == wanted:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _install(command: Sequence[str | Path], folder: Path, wanted: str) -> None:
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    if made.returncode:
        shutil.rmtree(folder)
        assert any(text in made.stderr for text in NOT_FOUND), made.stderr
        pytest.skip(f"cannot install {folder.name}: {made.stderr.strip().splitlines()[-1]}")
    (folder / "made-for").write_text(wanted)


def _pip() -> list[str]:
    """A pip that can install into other environments."""
    for python in (sys.executable, "python3", "python"):
        found = shutil.which(python)
        if found and not subprocess.run([found, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
            return [found, "-m", "pip"]
    pytest.skip("no pip to install other clients with")
