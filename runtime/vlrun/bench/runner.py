"""Runs a workload in separate processes and yields each sample as it is measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from vlrun.errors import DeviceError

Samples = dict[str, list[float]]
"""Measurements by figure, in seconds, bytes, tokens or tokens per second."""


@dataclass(frozen=True)
class WorkloadCommand:
    """A Python module that runs the workload, with its arguments.

    Attributes:
        name: For error messages.
        command: Module and arguments.
        environment: Additional environment variables.
        processes: Further arguments of each process; they run one after the other.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: tuple[tuple[str, ...], ...] = ((),)


def vlrun_workload(name: str, model: Path, length: Sequence[str]) -> WorkloadCommand:
    """Return all parts of the workload with vlrun. ``length``: the options ``--rounds`` and ``--tokens``."""
    parts = (("--only", "text"), (), ("--only", "keep"), ("--only", "disk"))
    return WorkloadCommand(name, ("vlrun.bench.workload", str(model), *length), processes=parts)


def run_workload(workload: WorkloadCommand) -> Generator[tuple[str, float]]:
    """Run every process of a workload and yield its samples: figure and value.

    Closing the generator kills the running process. The parts ``keep`` and ``disk`` share a new cache folder.

    Raises:
        DeviceError: A process failed; the message has its last line of stderr.
    """
    with tempfile.TemporaryDirectory() as cache:
        for further in workload.processes:
            own = {"XDG_CACHE_HOME": cache} if {"keep", "disk"} & set(further) else {}
            command = [sys.executable, "-m", *workload.command, *further, "--began", str(time.time())]
            with tempfile.TemporaryFile() as log, _process(command, {**workload.environment, **own}, log) as process:
                yield from _samples(process)
                if process.wait():
                    raise DeviceError(f"{workload.name} failed: {_last_line(log)}")


@contextmanager
def _process(
    command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in its own session, and kill it with its children at the end of the block."""
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=log, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


def _samples(process: subprocess.Popen[bytes]) -> Iterator[tuple[str, float]]:
    """Yield the samples of a process; other output is ignored."""
    for line in process.stdout or ():
        try:
            figure, value = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(figure, str) and isinstance(value, (int, float)):
            yield figure, value


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing to stderr"
