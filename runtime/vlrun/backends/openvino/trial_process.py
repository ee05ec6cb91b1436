"""Runs ``backends.openvino.trial`` as a process: a crash or a timeout there is an error here."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.trial import Outputs, Reply, Request, Seconds, Workload

READ_BYTES = 1 << 20
END_SECONDS = 2.0
"""Time for a process to end after it closed its output."""


class TrialFailed(Exception):
    """A trial crashed, took too long, or was refused; the message is a phrase for users."""


class Deadline:
    """A time limit. ``left`` is the seconds until it."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left, not less than 0."""
        return max(0.0, self._end - time.monotonic())


class TrialLike(Protocol):
    """What ``autotune`` needs of a trial."""

    def check(self) -> Outputs:
        """Return the outputs for fixed inputs. Raises TrialFailed."""

    def measure(self, workload: Workload) -> Seconds:
        """Time a workload once. Raises TrialFailed."""

    def close(self) -> None:
        """End the trial."""


class TrialProcess:
    """A process with a model that was loaded with certain hints.

    Args:
        folder: Path of the model folder.
        hints: The hints.
        deadline: When to give up.
        command: Replaces the module, for tests.

    Raises:
        TrialFailed: The model cannot be loaded.
    """

    def __init__(self, folder: Path, hints: Hints, deadline: Deadline, command: Sequence[str] = ()) -> None:
        self._deadline = deadline
        module = command or (sys.executable, "-P", "-m", "vlrun.backends.openvino.trial")
        self._process = subprocess.Popen(
            [*module, str(folder.absolute()), msgspec.json.encode(hints).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl+C is handled here
        )
        self._received = b""
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def check(self) -> Outputs:
        """Return the outputs for fixed inputs. Raises TrialFailed."""
        reply = self._ask(Request())
        assert reply.outputs is not None
        return reply.outputs

    def measure(self, workload: Workload) -> Seconds:
        """Time a workload once. Raises TrialFailed."""
        reply = self._ask(Request(workload))
        assert reply.seconds is not None
        return reply.seconds

    def close(self) -> None:
        """Kill the process with its children."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()

    def _end(self) -> str:
        """Return how the process ended, as a phrase."""
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its output"
        return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"

    def _ask(self, request: Request) -> Reply:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # reported when the reply is missing
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
        return self._read()

    def _read(self) -> Reply:
        assert self._process.stdout is not None
        while b"\n" not in self._received:
            ready, _, _ = select.select([self._process.stdout], [], [], self._deadline.left)
            if not ready:
                raise TrialFailed("took too long")
            received = os.read(self._process.stdout.fileno(), READ_BYTES)
            if not received:
                raise TrialFailed(self._end())
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        try:
            reply = msgspec.json.decode(line, type=Reply)
        except msgspec.MsgspecError:
            raise TrialFailed("gave no valid reply") from None
        if reply.error is not None:
            raise TrialFailed(reply.error)
        return reply
