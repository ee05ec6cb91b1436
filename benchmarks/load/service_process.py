"""A `vlrun serve` process on a socket that outlives it, so that it can be killed and restarted.

The socket is passed as systemd does it (sd_listen_fds(3)); clients that connect while no process serves wait in its
backlog.
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

from benchmarks.load.http_client import Address

HOST = "127.0.0.1"
MODEL_NAME = "loaded"
"""The model's name in requests."""
BACKLOG = 64
"""As ``Backlog=`` in the unit file."""
START_SECONDS, STOP_SECONDS = 300, 60
POLL_SECONDS = 0.05
MIB = 2**20

_SOCKET_ACTIVATION = (
    "import os, sys\n"
    "os.dup2(int(sys.argv[1]), 3)\n"
    "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
)
"""Run in the new process, whose id LISTEN_PID must be: moves the socket where systemd would put it."""
_LOGGED_ERROR = re.compile(rb"^(?:<[0-3]>.*|Traceback.*|\w*Warning.*)", re.MULTILINE)
"""Log lines of priority error (sd-daemon(3)), and Python's own tracebacks and warnings."""


@dataclass(frozen=True)
class ProcessStats:
    """Statistics of a process from Linux: resident and anonymous MiB, open files, threads, seconds of CPU time."""

    resident: float
    anonymous: float
    files: int
    threads: int
    cpu_seconds: float


def process_stats(process: int | str) -> ProcessStats:
    """Read the current figures of a process. Raises OSError if it has ended."""
    folder = Path("/proc") / str(process)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text(encoding="utf-8").splitlines())
    times = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return ProcessStats(
        resident=int(status["VmRSS"].split()[0]) * 1024 / MIB,
        anonymous=int(status["RssAnon"].split()[0]) * 1024 / MIB,
        files=len(list((folder / "fd").iterdir())),
        threads=int(status["Threads"]),
        cpu_seconds=(int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"),  # utime and stime, proc(5)
    )


class ServiceProcess:
    """A running service. ``options``: further options of `vlrun serve`. As a context manager it waits until ready, and
    stops.
    """

    def __init__(self, options: Sequence[str] = ()) -> None:
        self._options = options
        self._socket = socket.create_server((HOST, 0), backlog=BACKLOG)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _stop
        self.address: Address = self._socket.getsockname()
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Id of the current process."""
        return self._process.pid

    def __enter__(self) -> ServiceProcess:
        try:
            self.wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def wait(self) -> None:
        """Wait until the service is ready. Raises RuntimeError with the end of its log if it does not start."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._ready():
                return
            time.sleep(POLL_SECONDS)
        raise RuntimeError(
            f"the service did not start; the end of its log: {self._log_content()[-500:].decode(errors='replace')}"
        )

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start a new process on the same socket, without waiting until it is ready."""
        self._process = self._start()

    def log_errors(self) -> list[str]:
        """The errors in the log so far."""
        return [line.decode(errors="replace") for line in _LOGGED_ERROR.findall(self._log_content())]

    def _start(self) -> subprocess.Popen[bytes]:
        number = self._socket.fileno()
        serve = ["-m", "vlrun.cli", "serve", "--systemd", "--kv-disk", "0", "--name", MODEL_NAME, *self._options]
        return subprocess.Popen(
            [sys.executable, "-c", _SOCKET_ACTIVATION, str(number), *serve],
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

    def _log_content(self) -> bytes:
        """The log so far; the file position, shared with the process, is not moved."""
        number = self._log.fileno()
        return os.pread(number, os.fstat(number).st_size, 0)

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._socket.close()
        self._log.close()
