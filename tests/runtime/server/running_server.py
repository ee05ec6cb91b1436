"""A real `vlrun serve` in its own process, on a free port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.paths import ROOT

KEY = "correct-horse-battery-staple"
ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdef"
FRAME_ANCESTOR = "https://portal.example"
START_SECONDS = 60
READY = re.compile(r" ready url=(\S+)")
LISTENING = re.compile(r" listening url=(\S+)")


class Server:
    """A running service. ``log``: its lines so far."""

    def __init__(self, options: Sequence[str], environment: dict[str, str] | None = None) -> None:
        paths = os.pathsep.join([str(ROOT / "runtime"), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vlrun.cli", "serve", "--port", "0", "--kv-disk", "0", *options],
            env=os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "default"} | (environment or {}),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            self.log.append(line.rstrip("\n"))

    def wait_for(self, pattern: re.Pattern[str], seconds: float = START_SECONDS) -> re.Match[str]:
        """Wait for a log line that matches."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for line in list(self.log):
                if match := pattern.search(line):
                    return match
            if self.process.poll() is not None:
                self._reader.join(5)
                break
            time.sleep(0.02)
        raise AssertionError("\n".join(["the service did not log it:", *self.log]))

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 40) -> int:
        """Send a signal, wait for the exit, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait_for_exit(seconds)

    def wait_for_exit(self, seconds: float = 40) -> int:
        """Return the exit code."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        if self.process.stderr:
            self.process.stderr.close()
        return code


@contextmanager
def serving(*options: str, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Run a service for a block. Afterwards it must stop with exit code 0 and without errors in the log."""
    server = Server(options, environment)
    try:
        server.url = server.wait_for(READY)[1]
        yield server
        code = server.stop()
        assert code == 0, server.log
        errors = [line for line in server.log if "Traceback" in line or "error=" in line or "Warning" in line]
        assert not errors
    finally:
        server.process.kill()
        server.wait_for_exit()
