"""How this vlrun was installed, and the commands that fit: to run it, and to install packages that it lacks."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

CLONE = Path(__file__).resolve().parents[3]
"""The clone, if vlrun runs from one."""
SCRIPT = CLONE / "scripts" / "vlrun"
MADE_BY_SCRIPTS = "made-for"
"""A file of the environments that the scripts of a clone make."""
_SCRIPTS = {"export": "export", "serve": "serve", "hub": "pull"}
"""Commands of ``SCRIPT`` whose environment has an extra."""
EXPORT_NEEDS = ("vlrun_export", "torch", "transformers", "nncf", "safetensors")
CPU_TORCH = "https://download.pytorch.org/whl/cpu"
"""PyTorch's index of builds without several GB of CUDA; ``+cpu`` has priority over other builds of a version."""


def program() -> str:
    """Return what a user types to run this vlrun: its name where the shell finds it, otherwise a path."""
    own = Path(sys.executable).with_name("vlrun")
    if own.exists() and _found("vlrun", own):
        return "vlrun"
    return shlex.quote(_typed(SCRIPT if SCRIPT.is_file() else own))


def missing_packages(command: str, extra: str = "") -> str:
    """Return the message for a command whose packages are missing; the extra with them often has the command's name."""
    return f"'vlrun {command}' needs more packages: run {install_command(extra or command)}"


def can_export() -> bool:
    """Return whether the packages of ``vlrun export`` are there."""
    return all(find_spec(name) is not None for name in EXPORT_NEEDS)


def install_command(extra: str = "") -> str:
    """Return the command that installs what vlrun, or one of its extras, requires.

    pip takes ``vlrun`` for what is installed already and fetches only what it requires, so this works for an
    installation from a clone, a wheel or an index alike. The environments of a clone's scripts are left to the scripts.
    """
    if extra in _SCRIPTS and SCRIPT.is_file() and (not _is_installed() or Path(sys.prefix, MADE_BY_SCRIPTS).exists()):
        return f"{shlex.quote(_typed(SCRIPT))} {_SCRIPTS[extra]}"
    required = ("vlrun" if _is_installed() else str(CLONE)) + (f"[{extra}]" if extra else "")
    return f"{_pip()} install {shlex.quote(required)}{f' --extra-index-url {CPU_TORCH}' if extra == 'export' else ''}"


def _pip() -> str:
    """Return what calls pip for this environment, which may have none of its own."""
    python = shlex.quote(sys.executable)
    if PathFinder.find_spec("pip") is None:  # find_spec of importlib.util asks setuptools, which may warn
        return f"pip --python {python}"
    return "pip" if _found("pip", Path(sys.executable).with_name("pip")) else f"{python} -m pip"


def _is_installed() -> bool:
    from importlib import metadata  # thirty more modules

    try:
        metadata.distribution("vlrun")
    except metadata.PackageNotFoundError:
        return False
    return True


def _found(name: str, program: Path) -> bool:
    """Return whether the shell finds this very program by its name."""
    found = shutil.which(name)
    return found is not None and os.path.abspath(found) == os.path.abspath(program)  # noqa: PTH100 - links stay


def _typed(path: Path) -> str:
    """Return the path as a user would type it: relative, if it lies below the working directory."""
    try:
        return f"./{path.relative_to(Path.cwd())}"
    except (OSError, ValueError):  # the working directory is gone, or elsewhere
        return str(path)
