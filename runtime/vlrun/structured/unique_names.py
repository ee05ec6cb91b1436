"""Keeps the names in each object of an answer different: no grammar remembers what an open object has.

A token that would complete a name for the second time is forbidden. This misses a token with a whole name in it, and
yields where no other token may follow; the complete answer is checked as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

QUOTE, BACKSLASH, COMMA = b'"\\,'
SEPARATOR = b", "


@dataclass
class _Object:
    """An open object.

    Attributes:
        names: The names so far, with their quotes.
        next_name: What was written since the last comma; None within a value.
    """

    names: set[bytes] = field(default_factory=set)
    next_name: bytearray | None = field(default_factory=bytearray)


class UniqueNames:
    """Follows the JSON of one answer, which has one spelling of each name."""

    def __init__(self) -> None:
        self._open: list[_Object | None] = []  # None is an array
        self._in_string = self._escaped = False

    def reset(self) -> None:
        """Begin another JSON text."""
        self._open.clear()
        self._in_string = self._escaped = False

    def feed(self, text: bytes) -> None:
        """Follow a part of the answer."""
        for byte in text:
            inside = self._open[-1] if self._open else None
            name = None if inside is None else inside.next_name
            if name is not None:
                name.append(byte)
            if self._in_string:
                self._follow_string(byte, inside)
            elif byte == QUOTE:
                self._in_string = True
            elif byte in b"{[":
                self._open.append(_Object() if byte == ord("{") else None)
            elif byte in b"}]" and self._open:
                self._open.pop()
            elif byte == COMMA and inside is not None:
                inside.next_name = bytearray(b",")

    def forbidden(self) -> Iterator[bytes]:
        """Yield texts with which the answer must not continue."""
        inside = self._open[-1] if self._open else None
        if inside is not None and inside.next_name is not None:
            written = bytes(inside.next_name)
            for name in inside.names:
                if (repeated := SEPARATOR + name).startswith(written):
                    yield repeated[len(written) :]

    def _follow_string(self, byte: int, inside: _Object | None) -> None:
        if self._escaped:
            self._escaped = False
        elif byte == BACKSLASH:
            self._escaped = True
        elif byte == QUOTE:
            self._in_string = False
            if inside is not None and inside.next_name is not None:
                inside.names.add(bytes(inside.next_name).removeprefix(SEPARATOR))
                inside.next_name = None
