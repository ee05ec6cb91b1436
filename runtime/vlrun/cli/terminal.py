"""Safe output to a terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

import click

_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They change the text direction and can disguise text."""


def printable(text: str) -> str:
    """Remove control characters except line ends and tabs, and bidirectional controls.

    Answers and file names are untrusted and must not control the terminal. ``--json`` escapes them instead.
    """
    return "".join(c for c in text if c in "\n\t" or (unicodedata.category(c) != "Cc" and c not in _BIDI_CONTROLS))


def print_error(text: str) -> None:
    """Print a text to stderr. If it is full, or its reader is gone, the text is lost: no answer depends on it."""
    with contextlib.suppress(OSError):
        click.echo(printable(text), err=True)


def print_note(text: str) -> None:
    """Print a message to stderr."""
    print_error(f"vlrun: {text}")


@contextlib.contextmanager
def silent_libraries() -> Iterator[Callable[[str], None]]:
    """Discard the output of C libraries to stderr: libtiff reports damaged files there.

    Yields a function that prints a message to stderr nevertheless.
    """
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, AttributeError, ValueError):  # stderr is closed
        yield lambda _: None
        return
    try:
        with open(os.devnull, "wb") as devnull, _stderr_on_interrupt(saved):  # noqa: PTH123 - a device
            os.dup2(devnull.fileno(), 2)
            yield partial(_print_to, saved)
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextlib.contextmanager
def _stderr_on_interrupt(saved: int) -> Iterator[None]:
    """Let Ctrl+C in a block print to stderr again before anything else: it may end the process at once."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def restore(number: int, frame: FrameType | None) -> None:
        os.dup2(saved, 2)
        handler(number, frame)

    signal.signal(signal.SIGINT, restore)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _print_to(descriptor: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, f"vlrun: {printable(text)}\n".encode(sys.stderr.encoding or "ascii", "backslashreplace"))
