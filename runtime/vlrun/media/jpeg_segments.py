"""Walks over the segments of a JPEG file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

JPEG_MAGIC = b"\xff\xd8\xff"
END, SCAN = 0xD9, 0xDA
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # excludes stuffed bytes, fill bytes and restart markers
_WITHOUT_LENGTH = (0x01, 0xD8, END)


class Segment(NamedTuple):
    """A segment; of a scan, only its header.

    Attributes:
        marker: Second byte of its marker.
        skipped: Bytes between the previous segment and this one, pixels included.
        content: Its bytes after the length.
    """

    marker: int
    skipped: int
    content: bytes


def jpeg_segments(encoded: bytes) -> Iterator[Segment]:
    """Yield the segments after the start mark. Like libjpeg, skip bytes between segments."""
    position = len(JPEG_MAGIC) - 1
    while found := _MARKER.search(encoded, position):
        marker, skipped, position = encoded[found.end() - 1], found.start() - position, found.end()
        length = 0 if marker in _WITHOUT_LENGTH else int.from_bytes(encoded[position : position + 2], "big")
        yield Segment(marker, skipped, encoded[position + 2 : position + length])
        position += length
