"""Runs ``vlrun`` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.paths import RUNTIME


def command(args: Sequence[str | Path], home: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of a process with its cache in ``home``."""
    environment = {**os.environ, "PYTHONPATH": str(RUNTIME), "XDG_CACHE_HOME": str(home)}
    return [sys.executable, "-m", "vlrun.cli", *map(str, args)], environment


def vlrun(*args: str | Path, home: Path, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    arguments, inherited = command(args, home)
    return subprocess.run(
        arguments, input=stdin, capture_output=True, env=inherited | environment, timeout=120, check=False
    )
