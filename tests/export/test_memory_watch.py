"""Measuring the peak memory of a process."""

from __future__ import annotations

import subprocess
import sys
import time

from vlrun_export.memory_watch import MemoryWatch


def test_filled_memory_counts_as_anonymous_and_resident() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; x = bytearray(b'x') * 200_000_000; time.sleep(1)"])
    with MemoryWatch(process.pid) as watch:
        process.wait()
        time.sleep(0.05)
    assert 200e6 < watch.peak.anonymous < 260e6
    assert watch.peak.resident >= watch.peak.anonymous
