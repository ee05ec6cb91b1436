"""The terminal as a place where strangers' words end up. Knows streams and characters; does not know what they say."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Iterator

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of the text around them, with which one thing can look like another."""


def printable(text: str) -> str:
    """The text without control characters but line ends and tabs, and without what turns its direction: neither an
    image nor a file's name must steer the reader's terminal. ``--json`` has an answer letter for letter.
    """
    return "".join(c for c in text if c in "\n\t" or (unicodedata.category(c) != "Cc" and c not in _TURNING))


@contextlib.contextmanager
def silent_libraries() -> Iterator[None]:
    """Keep C libraries from writing to stderr by themselves: libtiff tells of damage in words of its own."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, AttributeError, ValueError):  # stderr is closed: nothing to keep clean
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
