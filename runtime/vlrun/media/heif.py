"""Opens HEIC photos with pi-heif, which is imported for the first one only; reads sizes from headers without it."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from PIL import Image as PILImage

from vlrun.errors import DamagedMedia, MissingExtra

EXTRA = "heic"
_ITEM = b"infe"
_SIZE = b"\0\0\0\x14ispe\0\0\0\0"
"""Begins the width and height of an image, its thumbnail or a tile (ISO/IEC 23008-12, ``ispe``)."""


def open_heif(file: io.BytesIO, name: str) -> PILImage.Image:
    """Open a HEIF image, whose pixels are not decoded yet. libheif turns them upright.

    Raises:
        MissingExtra: The package is not installed.
        DamagedMedia: The items of the file have no proper names: pi-heif 1.4 crashes on them.
        SyntaxError: The file is damaged otherwise.
    """
    try:
        from pi_heif.as_plugin import HeifImageFile
    except ImportError:
        raise MissingExtra(f"{name} is a HEIC photo, which needs another package", EXTRA) from None
    if not all(map(_is_utf8, _item_texts(file.getvalue()))):
        raise DamagedMedia(f"{name} is damaged or cut short")
    image: PILImage.Image = HeifImageFile(file)
    return image


def stated_size(encoded: bytes) -> tuple[int, int] | None:
    """Return the largest width and height that the header of a HEIF or AVIF image states; None without any.

    It calls no decoder, whose header parsers are code to attack, too.
    """
    sizes = [size for meta in _metadata(encoded) for size in _sizes_in(meta)]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _sizes_in(meta: bytes) -> Iterator[tuple[int, int]]:
    start = meta.find(_SIZE)
    while start >= 0 and start + len(_SIZE) + 8 <= len(meta):
        yield struct.unpack_from(">II", meta, start + len(_SIZE))
        start = meta.find(_SIZE, start + 1)


def _item_texts(encoded: bytes) -> Iterator[bytes]:
    """Yield type, name and content type of each item, as they are in the file (ISO/IEC 14496-12, ``infe``)."""
    for meta in _metadata(encoded):
        yield from _item_texts_in(meta)


def _metadata(encoded: bytes) -> Iterator[bytes]:
    """Yield the boxes ``meta`` of a file."""
    position = 0
    while position + 8 <= len(encoded):
        size, kind = struct.unpack_from(">I4s", encoded, position)
        if size == 1 and position + 16 <= len(encoded):
            (size,) = struct.unpack_from(">Q", encoded, position + 8)
        end = position + size if size >= 8 else len(encoded)  # 0: the rest of the file
        if kind == b"meta":
            yield encoded[position:end]
        position = end


def _item_texts_in(meta: bytes) -> Iterator[bytes]:
    start = meta.find(_ITEM)
    while start >= 4:
        size = int.from_bytes(meta[start - 4 : start], "big")
        version = meta[start + 4 : start + 5]
        yield meta[start + (14 if version == b"\3" else 12) : start - 4 + size]
        start = meta.find(_ITEM, start + 4)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
