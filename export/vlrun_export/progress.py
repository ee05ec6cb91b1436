"""Progress of an export: what a caller is told, and how ``vlrun export`` prints it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Protocol, TextIO

Report = Callable[[float], None]
"""Is called with the fraction of a step that is done, from 0 to 1."""

TERMINAL_SECONDS = 0.2
LOG_SECONDS = 10.0
"""Least time between two fractions of a step: on a terminal they replace each other, in a log each takes a line."""
INDENT = " " * 10
NEWLINE = "\n"
ERASE = "\r\x1b[K"


class Progress(Protocol):
    """Is called at the beginning of each step, and within a long one with the ``fraction`` that is done."""

    def __call__(self, step: str, fraction: float | None = None) -> None:
        """Take note of a step, or of its fraction."""


def no_progress(step: str, fraction: float | None = None) -> None:
    """Take note of nothing."""


class ProgressLines:
    """Writes a line per step, with the seconds since the start. Leaving the context erases what is not final.

    On a terminal, the fraction of a step stands in the line below it until the next step.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._start = self._last = time.monotonic()
        self._unfinished = False

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._erase()

    def __call__(self, step: str, fraction: float | None = None) -> None:
        """Write a step, or its fraction unless another was written a moment ago."""
        now = time.monotonic()
        if fraction is None:
            self._erase()
            self._write(f"{now - self._start:6.1f} s  {step.replace(NEWLINE, NEWLINE + INDENT)}\n")
        elif now - self._last < (TERMINAL_SECONDS if self._terminal else LOG_SECONDS):
            return
        elif self._terminal:
            self._erase()
            self._write(f"{INDENT}{fraction:.0%}")
            self._unfinished = True
        else:
            self._write(f"{now - self._start:6.1f} s  {step}: {fraction:.0%}\n")
        self._last = now

    def _erase(self) -> None:
        if self._unfinished:
            self._write(ERASE)
            self._unfinished = False

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk or a closed pipe ends no export
            self._stream.write(text)
            self._stream.flush()
