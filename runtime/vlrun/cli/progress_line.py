"""One line on the terminal about what is going on while nothing is printed yet; erased before anything is printed."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from typing import TypeAlias

from vlrun.cli.terminal import printable

DELAY_SECONDS = 0.2
"""Work that is done earlier shows nothing: a line that only flashes up disturbs."""
TICK_SECONDS = 0.1
DEFAULT_COLUMNS = 80
"""Of a terminal that does not tell its width."""
MAX_PERCENT = 99
"""Shown at most: times are estimates, and work that is done shows nothing."""
ERASE = "\r\x1b[K"

Describe: TypeAlias = Callable[[], str]
"""Returns the text of the line at this moment; an empty one ends it."""


class ProgressLine:
    """A line on stderr that is drawn again and again, if stderr is a terminal. Thread-safe.

    Everything else that is printed while it is shown goes through ``paused`` or ``stream``, or after ``clear``. Leaving
    the ``with`` block clears it.

    Args:
        wanted: Whether the user wants to see it.
    """

    def __init__(self, wanted: bool = True) -> None:
        self._descriptor = _duplicate_terminal() if wanted else None
        self.active = self._descriptor is not None
        self.stream = _PausingStream(self)
        self._lock = threading.RLock()
        self._describe: Describe = str
        self._stop: threading.Event | None = None
        self._drawn = ""

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        if self._descriptor is not None:
            os.close(self._descriptor)
        self.active = False

    def show(self, describe: Describe) -> None:
        """Show this text until the next one, or until ``clear``."""
        if not self.active:
            return
        with self._lock:
            self._describe = describe
            if self._stop is None:
                self._stop = threading.Event()
                threading.Thread(target=self._run, args=(self._stop,), name="vlrun-progress", daemon=True).start()

    def clear(self) -> None:
        """Erase the line, and show nothing any more."""
        with self._lock:
            if self._stop is not None:
                self._stop.set()
                self._stop = None
            self._erase()

    @contextlib.contextmanager
    def cleared_after(self) -> Iterator[None]:
        """Clear the line at the end of a block, also after an error."""
        try:
            yield
        finally:
            self.clear()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Erase the line for a block that prints; it is drawn again afterwards."""
        with self._lock:
            self._erase()
            yield

    def _run(self, stop: threading.Event) -> None:
        seconds = DELAY_SECONDS
        while not stop.wait(seconds):
            seconds = TICK_SECONDS
            with self._lock:
                if stop.is_set():
                    return
                text = self._describe()
                if not text:
                    self.clear()
                    return
                shown = _fitting(" ".join(printable(text).split()), self._columns() - 1)
                if shown != self._drawn:
                    self._drawn = shown
                    self._write(f"\r{shown}\x1b[K")

    def _erase(self) -> None:
        if self._drawn:
            self._drawn = ""
            self._write(ERASE)

    def _columns(self) -> int:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                return os.get_terminal_size(self._descriptor).columns or DEFAULT_COLUMNS
        return DEFAULT_COLUMNS

    def _write(self, text: str) -> None:
        """Write to the terminal. If it is gone, nobody misses the line."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, text.encode(sys.stderr.encoding or "ascii", "replace"))


class _PausingStream:
    """A text stream to stderr for a log that is written while the line is shown."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line

    def write(self, text: str) -> int:
        with self._line.paused():
            return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def timed(label: str, expected: float | None, began: float, share: float = 0.0) -> Describe:
    """Return a description of work that began at ``began`` (``time.monotonic``) and takes ``expected`` seconds.

    Args:
        label: What is done.
        expected: Seconds of the rest, from earlier measurements; None if there are none.
        began: When the rest began.
        share: Share of the whole that was done before.
    """

    def describe() -> str:
        elapsed = time.monotonic() - began
        if expected is None or elapsed >= expected:
            return seconds_of(label, elapsed, share)
        return percent_of(label, share + (1 - share) * elapsed / expected, expected - elapsed)

    return describe


def seconds_of(label: str, elapsed: float, share: float = 0.0) -> str:
    """Return the text of work that nobody knows the end of."""
    return f"{label}: {_percent(share)}, {elapsed:.0f} s" if share else f"{label}: {elapsed:.0f} s"


def percent_of(label: str, share: float, left: float) -> str:
    """Return the text of work of which a share is done, and that takes ``left`` more seconds."""
    return f"{label}: {_percent(share)}, {math.ceil(left)} s left"


def _percent(share: float) -> str:
    return f"{min(int(100 * share), MAX_PERCENT)} %"


def _duplicate_terminal() -> int | None:
    """Return a descriptor of stderr if it is a terminal that understands escape sequences.

    It is one of its own, because ``silent_libraries`` replaces that of stderr for a while.
    """
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            return os.dup(sys.stderr.fileno())
    return None


def _fitting(text: str, columns: int) -> str:
    """Return as much of a text as fits: a line that wraps could not be erased.

    Characters that stderr cannot encode become "?", because it would write them as longer escape sequences.
    """
    encoding = sys.stderr.encoding or "ascii"
    width = 0
    encodable = text.encode(encoding, "replace").decode(encoding)
    for number, character in enumerate(encodable):
        width += _cells(character)
        if width > columns:
            return encodable[:number]
    return encodable


def _cells(character: str) -> int:
    """Return the most cells that a terminal may use for a character; for those of ambiguous width, East Asian ones."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WFA" else 1
