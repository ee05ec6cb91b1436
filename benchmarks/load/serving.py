"""A `vlrun serve` of our own, on a socket that outlives it: watched from outside, killed, started again.

The socket is handed over as systemd does it (sd_listen_fds(3)), so whoever connects while nobody serves waits in its
backlog. Knows processes and /proc; does not know what is asked.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks.load.wire import Address

HOST = "127.0.0.1"
NAME = "loaded"
"""What clients call the model."""
BACKLOG = 64
"""As in the unit file: ``Backlog=``."""
START_SECONDS, STOP_SECONDS = 300, 60
POLL_SECONDS = 0.05
MIB = 2**20

_HAND_OVER = (
    "import os, sys\n"
    "os.dup2(int(sys.argv[1]), 3)\n"
    "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
)
"""Run in the new process, whose number LISTEN_PID must be: puts the socket where systemd would."""
_COMPLAINT = re.compile(rb"^(?:<[0-3]>.*|Traceback.*|\w*Warning.*)", re.MULTILINE)
"""Errors by their priority (sd-daemon(3)), and what Python says by itself."""


@dataclass(frozen=True)
class Vitals:
    """A process as Linux sees it: MiB resident and of these anonymous, open files, threads, seconds of processor."""

    resident: float
    anonymous: float
    files: int
    threads: int
    processor: float


def vitals(process: int | str) -> Vitals:
    """As it is now. Raises OSError if it is gone."""
    folder = Path("/proc") / str(process)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text(encoding="utf-8").splitlines())
    times = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return Vitals(
        resident=int(status["VmRSS"].split()[0]) * 1024 / MIB,
        anonymous=int(status["RssAnon"].split()[0]) * 1024 / MIB,
        files=len(list((folder / "fd").iterdir())),
        threads=int(status["Threads"]),
        processor=(int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"),  # utime and stime, proc(5)
    )


class Serving:
    """A running service. ``options``: further ones of `vlrun serve`. Use it in a ``with`` block: it is ready inside,
    and gone behind it.
    """

    def __init__(self, options: Sequence[str] = ()) -> None:
        self._options = options
        self._socket = socket.create_server((HOST, 0), backlog=BACKLOG)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _end
        self.address: Address = self._socket.getsockname()
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Of the process that serves now."""
        return self._process.pid

    def __enter__(self) -> Serving:
        try:
            self.wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def wait(self) -> None:
        """Until the model answers. Raises RuntimeError with its last words if it does not come to that."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            if self._ready():
                return
            time.sleep(POLL_SECONDS)
        raise RuntimeError(f"the service did not start, its last words: {self._said()[-500:].decode(errors='replace')}")

    def kill(self) -> None:
        """End it in the middle of whatever it does, with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start it again on the same socket; it may not be ready yet."""
        self._process = self._start()

    def complaints(self) -> list[str]:
        """What it logged as errors so far."""
        return [line.decode(errors="replace") for line in _COMPLAINT.findall(self._said())]

    def _start(self) -> subprocess.Popen[bytes]:
        number = self._socket.fileno()
        serve = ["-m", "vlrun.cli", "serve", "--systemd", "--kv-disk", "0", "--name", NAME, *self._options]
        return subprocess.Popen(
            [sys.executable, "-c", _HAND_OVER, str(number), *serve],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection(*self.address, timeout=START_SECONDS)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _said(self) -> bytes:
        """Its log; the place in the file, which the process shares, stays where it is."""
        number = self._log.fileno()
        return os.pread(number, os.fstat(number).st_size, 0)

    def _end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._socket.close()
        self._log.close()
