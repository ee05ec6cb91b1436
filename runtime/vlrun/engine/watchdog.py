"""Whether an engine makes progress: when it last got on with its work, seen from any thread.

Knows moments; does not know what the work is.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

CPU_SHARE = 0.01
"""Of one core: less than this, over ``WINDOW`` seconds, is no computing. A unit held to 30 % of a core does more."""
WINDOW = 20.0
"""Seconds without a finished step before anybody asks whether something is still computed: a step takes less even at a
third of a slow core, a large image may take longer.
"""
LONGEST = 900.0
"""Seconds after which one step, or one image, is taken for an endless loop, however much it computes."""


@dataclass(frozen=True)
class EngineState:
    """An engine at one moment. ``progressing``: it is idle, or gets on; ``still``: seconds since it last finished
    something, 0 if it is idle; then sequences and blocks of the KV cache, and bytes of image features.
    """

    progressing: bool
    still: float
    running: int
    waiting: int
    blocks: int
    free_blocks: int
    named_blocks: int
    block_bytes: int
    feature_bytes: int


def _device_seconds() -> float:
    """Seconds of processor time of all threads but Python's own: those that a device computes with."""
    python = {str(thread.native_id) for thread in threading.enumerate()}
    ticks = 0
    for task in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended
            if task.name not in python:
                fields = (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


class Watchdog:
    """Told of every step that ends. Says whether the next one is only slow, or hangs: a device that computes takes time
    of the processor, one that hangs takes none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moved = time.monotonic()
        self._looked = (self._moved, _device_seconds())
        self._computing = True

    def beat(self) -> None:
        """Something was finished, or began after there was nothing to do."""
        with self._lock:
            self._moved = time.monotonic()
            self._looked = (self._moved, _device_seconds())
            self._computing = True

    @property
    def still(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._moved

    def progressing(self) -> bool:
        """Whether work that is under way gets on."""
        if self.still < WINDOW:
            return True
        with self._lock:
            now, used = time.monotonic(), _device_seconds()
            since, before = self._looked
            if now - since >= WINDOW:
                self._computing = used - before >= CPU_SHARE * (now - since)
                self._looked = (now, used)
            return self._computing and self.still < LONGEST
