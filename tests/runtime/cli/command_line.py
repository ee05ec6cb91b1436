"""Runs ``vlrun`` as a process."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.paths import ROOT, RUNTIME


def command(args: Sequence[str | Path], home: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of a process with its cache in ``home``."""
    environment = {**os.environ, "PYTHONPATH": str(RUNTIME), "XDG_CACHE_HOME": str(home)}
    return [sys.executable, "-m", "vlrun.cli", *map(str, args)], environment


def vlrun(*args: str | Path, home: Path, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, in a process forked from one that has imported its packages."""
    arguments, inherited = command(args, home)
    with tempfile.TemporaryDirectory() as temporary:
        streams = {name: Path(temporary, name) for name in ("stdin", "stdout", "stderr")}
        for name, file in streams.items():
            file.write_bytes(stdin if name == "stdin" else b"")
        request = {
            "arguments": arguments[3:],
            "environment": inherited | environment,
            "folder": str(Path.cwd()),
            **{name: str(file) for name, file in streams.items()},
        }
        code = _run(json.dumps(request))
        return subprocess.CompletedProcess(
            arguments, code, streams["stdout"].read_bytes(), streams["stderr"].read_bytes()
        )


def _run(request: str) -> int:
    server = _fork_server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(request + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@functools.cache
def _fork_server() -> subprocess.Popen[str]:
    """Start the server; it ends with this process, which closes its stdin."""
    paths = os.pathsep.join(map(str, (ROOT, RUNTIME)))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.runtime.cli.fork_server"],
        env={**os.environ, "PYTHONPATH": paths}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
