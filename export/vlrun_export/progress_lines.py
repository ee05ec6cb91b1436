"""Prints the progress of an export: a line per step, and what is done of the current one."""

from __future__ import annotations

import time

from vlrun.cli.progress_line import ProgressLine, percent_of, timed
from vlrun.cli.terminal import print_error

LOG_SECONDS = 10.0
"""Least time between two fractions of a step in a log, where each takes a line."""
INDENT = " " * 10


class ProgressLines:
    """Writes a line per step to stderr, with the seconds since the start.

    On a terminal, ``line`` shows below it what is done of the step. In a log, a further line does now and then.
    """

    def __init__(self, line: ProgressLine) -> None:
        self._line = line
        self._start = self._began = self._last = time.monotonic()

    def __call__(self, step: str, fraction: float | None = None) -> None:
        """Write a step, or its fraction."""
        now = time.monotonic()
        if fraction is None:
            with self._line.paused():
                self._print(now, step)
            self._line.show(timed(step.partition("\n")[0], None, now))
            self._began = self._last = now
        elif self._line.active and fraction > 0:
            left = (now - self._began) * (1 - fraction) / fraction
            text = percent_of(step, fraction, left)
            self._line.show(lambda: text)
        elif not self._line.active and now - self._last >= LOG_SECONDS:
            self._print(now, f"{step}: {fraction:.0%}")
            self._last = now

    def _print(self, now: float, text: str) -> None:
        lines = text.replace("\n", f"\n{INDENT}")
        print_error(f"{now - self._start:6.1f} s  {lines}")
