"""The progress of a pull: what is done, how fast, and how long the rest takes."""

from __future__ import annotations

import math
import time
from collections import deque

WINDOW_SECONDS = 10.0
"""The rate is that of the last seconds: it follows a network that becomes slow, and does not jump."""
MB, GB = 10**6, 10**9


class PullProgress:
    """Counts the bytes of a pull. ``describe`` may be called from another thread.

    Attributes:
        step: What goes on now, if it is not the download.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._total = 0
        self._done = 0
        self._times: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self.step = f"asking the hub for {name}"

    def begin(self, total: int, done: int) -> None:
        """Begin the download of ``total`` bytes, of which some are there already."""
        self._total, self._done, self.step = total, done, ""
        self._times = deque([(time.monotonic(), done)])

    def add(self, nbytes: int) -> None:
        """Count bytes that arrived; negative ones are lost again."""
        self._done += nbytes
        now = time.monotonic()
        self._times.append((now, self._done))
        while len(self._times) > 2 and now - self._times[1][0] > WINDOW_SECONDS:
            self._times.popleft()

    def describe(self) -> str:
        """Return the present state in one line."""
        if self.step:
            return self.step
        share = min(99, 100 * self._done // max(self._total, 1))
        text = f"pulling {self._name}: {share} %, {_size(self._done)} of {_size(self._total)}"
        (began, before), now = self._times[0], time.monotonic()
        rate = (self._done - before) / (now - began) if now - began > 1 else 0
        if rate <= 0:
            return text
        return f"{text}, {rate / MB:.1f} MB/s, {_duration((self._total - self._done) / rate)} left"


def _size(nbytes: int) -> str:
    return f"{nbytes / GB:.2f} GB" if nbytes >= GB else f"{nbytes / MB:.1f} MB"


def _duration(seconds: float) -> str:
    whole = math.ceil(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min" if whole < 7200 else f"{whole / 3600:.1f} h"
