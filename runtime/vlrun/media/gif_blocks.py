"""Walks the blocks of a GIF (GIF89a, appendix A) as far as its first image needs: up to the second image."""

from __future__ import annotations

import struct
from collections.abc import Iterator

GIF_MAGIC = (b"GIF87a", b"GIF89a")
IMAGE = b","
EXTENSION = b"!"
_TRAILER = b";"
_SCREEN = struct.Struct("<6xHHB2x")
_DESCRIPTOR = struct.Struct("<xHHHHB")
_SMALL = 128
"""Bytes of a sub-block of an image below which it is one too many: programs fill them, up to 255 bytes."""


def gif_blocks(encoded: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield kind and offset of what costs time to skip: images, extensions, their sub-blocks, small sub-blocks of
    images, and bytes that belong to no block.
    """
    position, images = _SCREEN.size + _palette(encoded, 10), 0
    while position < len(encoded) and (kind := encoded[position : position + 1]) != _TRAILER:
        yield kind, position
        images += kind == IMAGE
        if images == 2:
            return
        if kind == IMAGE:
            position += _DESCRIPTOR.size + _palette(encoded, position + _DESCRIPTOR.size - 1) + 1
        elif kind == EXTENSION:
            position += 2
        else:
            position += 1
            continue
        while position < len(encoded) and (size := encoded[position]):
            if kind == EXTENSION or size < _SMALL:
                yield b"", position
            position += 1 + size
        position += 1


def gif_size(encoded: bytes) -> tuple[int, int]:
    """Return width and height of the first image on its screen. Raises struct.error for an incomplete header."""
    width, height, _ = _SCREEN.unpack_from(encoded)
    first = next((position for kind, position in gif_blocks(encoded) if kind == IMAGE), None)
    if first is None:
        return width, height
    left, top, right, bottom, _ = _DESCRIPTOR.unpack_from(encoded, first)
    return max(width, left + right), max(height, top + bottom)


def _palette(encoded: bytes, position: int) -> int:
    """Return the length of the palette that the flags at ``position`` announce."""
    flags = encoded[position] if position < len(encoded) else 0
    return 3 << (flags & 7) + 1 if flags & 128 else 0
