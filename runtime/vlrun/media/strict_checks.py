"""Checks of untrusted image files that Pillow does not make: segment counts, PNG checksums, EXIF directories."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from itertools import islice, repeat
from typing import Literal

from vlrun.errors import DamagedMedia, MediaTooLarge

MAX_SEGMENTS = 256
"""Limit for the segments and scans of a JPEG, and for the non-pixel chunks of a PNG (compressed ones count as 16).

Small segments can be expensive: a JPEG scan of 100 bytes rewrites the whole image (20 ms for 50 megapixels), a PNG
chunk of 1 kB inflates to 1 MB (2 ms), and EXIF segments are joined in quadratic time. Valid files have fewer: 15 MB of
metadata take 240 full segments, progressive JPEGs have about 10 scans.
"""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_INFLATED = (b"iCCP", b"zTXt", b"iTXt")  # each inflates to at most 1 MB while the header is read
_INFLATED_WEIGHT = 16
_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # excludes stuffed bytes, fill bytes and restart markers
_JPEG_SKIPPED = 4096
_JPEG_SCAN = 0xDA
_JPEG_END = 0xD9
_JPEG_WITHOUT_LENGTH = (0x01, 0xD8)  # TEM, SOI


def check_segments(encoded: bytes, name: str) -> None:
    """Check the segments of formats whose headers Pillow parses in Python.

    Raises:
        MediaTooLarge: There are more than ``MAX_SEGMENTS``.
        ValueError: A PNG checksum is wrong.
    """
    for magic, walk in ((_JPEG_MAGIC, _jpeg_segments), (_PNG_MAGIC, _png_chunks)):
        if encoded.startswith(magic) and len(list(islice(walk(encoded), MAX_SEGMENTS + 1))) > MAX_SEGMENTS:
            raise MediaTooLarge(f"{name} has more than {MAX_SEGMENTS} segments, the limit")


def _jpeg_segments(encoded: bytes) -> Iterator[int]:
    """Yield the marker of each segment and scan. Like libjpeg, skip bytes between segments; before the first scan,
    every ``_JPEG_SKIPPED`` of them count as a segment, because Pillow skips them one by one.
    """
    position = len(_JPEG_MAGIC) - 1
    scanning = False
    while found := _JPEG_MARKER.search(encoded, position):
        marker = encoded[found.end() - 1]
        if marker == _JPEG_END:
            return
        yield from repeat(marker, 1 if scanning else 1 + (found.start() - position) // _JPEG_SKIPPED)
        scanning = scanning or marker == _JPEG_SCAN
        position = found.end()
        if marker not in _JPEG_WITHOUT_LENGTH:
            position += int.from_bytes(encoded[position : position + 2], "big")


def _png_chunks(encoded: bytes) -> Iterator[bytes]:
    """Yield the type of each non-pixel chunk, repeated by its weight. Raises ValueError for a wrong checksum: Pillow
    checks only the chunks before the pixels.
    """
    chunks = memoryview(encoded)
    position = len(_PNG_MAGIC)
    kind = b""
    while position + 8 <= len(chunks) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", chunks, position)
        end = position + 8 + length
        if zlib.crc32(chunks[position + 4 : end]) != int.from_bytes(chunks[end : end + 4], "big"):
            raise ValueError("checksum")
        if kind != b"IDAT":
            yield from repeat(kind, _INFLATED_WEIGHT if kind in _INFLATED else 1)
        position = end + 4


def check_exif(exif: bytes, name: str) -> None:
    """Raise DamagedMedia if the first directory, which has the orientation, is incomplete. Pillow ignores most damage,
    so the image could be rotated wrongly.
    """
    tiff = re.sub(rb"^(Exif\0\0){1,2}", b"", exif)
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"
    directory = int.from_bytes(tiff[4:8], order)
    entries = int.from_bytes(tiff[directory : directory + 2], order)
    if tiff and (tiff[:4] not in (b"II*\0", b"MM\0*") or directory + 2 + 12 * entries > len(tiff)):
        raise DamagedMedia(f"{name} has damaged EXIF data")
