"""The watchdog: tells from any thread whether the engine makes progress."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

MIN_CPU_SHARE = 0.01
"""Share of one core. A backend that uses less over ``WINDOW_SECONDS`` does not compute."""
WINDOW_SECONDS = 20.0
"""Time without a finished step after which the CPU time is checked. Only large images take longer."""
MAX_STEP_SECONDS = 900.0
"""Time after which a step or an image counts as an endless loop, even if it computes."""


@dataclass(frozen=True)
class EngineState:
    """The engine at one moment.

    Attributes:
        progressing: Whether it is idle or makes progress.
        stalled_seconds: Time since the last finished step; 0 if idle.
        waiting: Sequences that wait for blocks.
        encoding: Images that running sequences wait for.
        storing: Prefixes being written to disk.
        free_blocks: Blocks neither held nor reserved by a sequence.
        cached_blocks: Blocks that a later prompt can reuse.
        feature_bytes: Size of the cached image features.
    """

    progressing: bool
    stalled_seconds: float
    running: int
    waiting: int
    encoding: int
    storing: int
    blocks: int
    free_blocks: int
    cached_blocks: int
    block_bytes: int
    feature_bytes: int


def backend_cpu_seconds() -> float:
    """Return the CPU time of the backend's threads: all but Python's own."""
    python = {str(thread.native_id) for thread in threading.enumerate()}
    ticks = 0
    for task in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has just ended
            if task.name not in python:
                fields = (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


class Watchdog:
    """Tells slow steps from hanging ones by the CPU time that the backend uses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Report progress: a step ended, or an idle engine got work."""
        with self._lock:
            self._progress_at = time.monotonic()
            self._sample = (self._progress_at, backend_cpu_seconds())
            self._computing = True

    @property
    def stalled_seconds(self) -> float:
        """Time since the last reset."""
        return time.monotonic() - self._progress_at

    def progressing(self) -> bool:
        """Return whether the current step makes progress."""
        if self.stalled_seconds < WINDOW_SECONDS:
            return True
        with self._lock:
            now, used = time.monotonic(), backend_cpu_seconds()
            since, before = self._sample
            if now - since >= WINDOW_SECONDS:
                self._computing = used - before >= MIN_CPU_SHARE * (now - since)
                self._sample = (now, used)
            return self._computing and self.stalled_seconds < MAX_STEP_SECONDS
