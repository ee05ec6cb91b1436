"""Peak memory of a process: resident pages, and anonymous pages, which are not mapped from a file.

Mapped weights are resident too, but the kernel can drop them at any time. ``python -m vlrun_export.memory_watch
COMMAND...`` measures any program and prints a line of JSON to stderr.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

INTERVAL_SECONDS = 0.02


@dataclass
class PeakMemory:
    """Peak values in bytes. ``resident`` is exact, ``anonymous`` is sampled."""

    resident: int = 0
    anonymous: int = 0

    def sample(self, process: int | str) -> None:
        """Read ``/proc/PROCESS/status`` unless the process has ended."""
        try:
            lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
        except OSError:
            return
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
        self.resident = max(self.resident, values.get("VmHWM", 0))
        self.anonymous = max(self.anonymous, values.get("RssAnon", 0))


class MemoryWatch:
    """Samples a process in a thread during a ``with`` block. The result is in ``peak``."""

    def __init__(self, process: int | str = "self") -> None:
        self.peak = PeakMemory()
        self.process = process
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.peak.sample(self.process)

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL_SECONDS):
            self.peak.sample(self.process)


def main(command: list[str]) -> int:
    """Run a command, print its peak memory as JSON to stderr, and return its exit status."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    with MemoryWatch(process.pid) as watch:
        status = process.wait()
    resident = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # exact, not sampled
    figures = {
        "command": command,
        "status": status,
        "seconds": round(time.perf_counter() - start, 1),
        "peak_resident_gb": round(resident / 1e9, 2),
        "peak_anonymous_gb": round(watch.peak.anonymous / 1e9, 2),
    }
    print(json.dumps(figures), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
