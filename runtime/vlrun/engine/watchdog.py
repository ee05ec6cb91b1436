"""The watchdog: whether the engine makes progress, seen from any thread."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

MIN_CPU_SHARE = 0.01
"""Share of one core. Less than this over ``WINDOW_SECONDS`` is no computation; a unit throttled to 30 % does more."""
WINDOW_SECONDS = 20.0
"""Time without a finished step before the CPU time is looked at. A step takes less even on a third of a slow core; a
large image may take longer.
"""
MAX_STEP_SECONDS = 900.0
"""Time after which a step or an image counts as an endless loop, however much it computes."""


@dataclass(frozen=True)
class EngineState:
    """The engine at one moment.

    Attributes:
        progressing: It is idle, or its work makes progress.
        stalled_seconds: Time since it finished a step, 0 if it is idle.
        running: Sequences that run.
        waiting: Sequences that wait for blocks.
        encoding: Images whose features running sequences wait for.
        storing: Prefixes on their way to the disk.
        blocks: Blocks of the KV cache.
        free_blocks: Blocks that no sequence holds or has reserved.
        cached_blocks: Blocks that a later prompt can reuse.
        block_bytes: Size of a block.
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
    """Return the CPU time of all threads but Python's own: those in which a backend computes."""
    python = {str(thread.native_id) for thread in threading.enumerate()}
    ticks = 0
    for task in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has just ended
            if task.name not in python:
                fields = (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


class Watchdog:
    """Tells a slow step from one that hangs: a device that computes uses CPU time, one that hangs uses none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Report progress: a step ended, or work arrived after a time without any."""
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
