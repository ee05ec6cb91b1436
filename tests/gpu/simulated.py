"""Installs the simulated integrated GPU on first use (README.md), and runs Python with it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from tests.paths import ROOT

SOURCES = Path(__file__).parent / "fake_igpu"
LAYER, RUNTIME, TBB = "liblayer.so", "libintelocl.so", "libtbb.so.12"
LIBRARIES = (
    *("libOpenCL.so.1", RUNTIME, "libcommon_clang.so.*.*", "cl.cfg", "clbltfn*.rtl", "cllibrary*", "libocl_svml_*.so"),
    *("libimf.so", "libirng.so", "libsvml.so", "libintlc.so.5", TBB),
)
"""What is needed of the wheels. They hold each library two or three times, because wheels have no links."""
CHUNK = 1 << 20


class NotInstallable(Exception):
    """The simulated GPU cannot be installed on this machine."""


def install() -> Path:
    """Return the folder of the libraries; fetch and build them if needed, once for all processes.

    It lies beside the environments of scripts/. Raises NotInstallable.
    """
    folder = Path(os.environ.get("VLRUN_ENV") or ROOT / ".venv") / "fake-igpu"
    made_for, recipe = folder / "made-for", _recipe()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if not (made_for.is_file() and made_for.read_text() == recipe):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            _build_layer(folder)
            _fetch_libraries(folder)
            made_for.write_text(recipe)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Return the environment variables with which OpenVINO finds the GPU in a new process.

    The runtime needs a newer TBB than OpenVINO's, and a process has one, so it is loaded first.
    """
    return {
        "LD_LIBRARY_PATH": str(folder),
        "LD_PRELOAD": str(folder / TBB),
        "OCL_ICD_FILENAMES": str(folder / RUNTIME),
        "OPENCL_LAYERS": str(folder / LAYER),
    }


def _recipe() -> str:
    """Return a hash of everything that determines the content of the folder."""
    return hashlib.sha256(
        b"".join(path.read_bytes() for path in (*sorted(SOURCES.iterdir()), Path(__file__)))
    ).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build_layer(folder: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise NotInstallable("there is no C compiler")
    options = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    _run([compiler, *options, "-o", str(folder / LAYER), str(SOURCES / "layer.c")])


def _fetch_libraries(folder: Path) -> None:
    pip = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=20"]
    with tempfile.TemporaryDirectory(dir=folder.parent) as wheels:
        _run([*pip, "--dest", wheels, "--require-hashes", "--requirement", str(SOURCES / "requirements.txt")])
        for wheel in Path(wheels).glob("*.whl"):
            _extract(wheel, folder)


def _pip() -> list[str]:
    """Return the command of pip: this environment's, or that of the Python that created it."""
    for python in (sys.executable, getattr(sys, "_base_executable", sys.executable)):
        command = [python, "-m", "pip"]
        if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0:
            return command
    raise NotInstallable("there is no pip")


def _extract(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.namelist():
            name = Path(entry).name
            if "/data/lib/" in entry and any(fnmatch(name, pattern) for pattern in LIBRARIES):
                with archive.open(entry) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target, CHUNK)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstallable(
            f"'{Path(command[0]).name}' failed: {' '.join((done.stderr or done.stdout).split())[-300:]}"
        )
