"""Peak memory of a process, as Linux counts it: all resident pages, and the anonymous ones that are no mapped file.

Weights mapped from a file are resident too, but the system may drop them at any time; anonymous pages it may not. Run
as ``python -m vlrun_export.measure COMMAND...`` it measures any other program and ends in one line of JSON on stderr.
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
    """Highest values seen so far, in bytes. ``resident`` is exact, ``anonymous`` is sampled."""

    resident: int = 0
    anonymous: int = 0

    def sample(self, process: int | str) -> None:
        """Look at ``/proc/PROCESS/status`` once; a process that has ended changes nothing."""
        try:
            lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
        except OSError:
            return
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
        self.resident = max(self.resident, values.get("VmHWM", 0))
        self.anonymous = max(self.anonymous, values.get("RssAnon", 0))


class MemoryWatch:
    """Samples a process in a thread while the ``with`` block runs; ``peak`` holds the result."""

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
    """Run a command, measure it, print one line of JSON on stderr, and return its exit status."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    with MemoryWatch(process.pid) as watch:
        status = process.wait()
    resident = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # exact, where the watch only samples
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
