"""Checks of image files that Pillow does not make: scans, strips and blocks, which are costly to decode; for untrusted
files also segments, PNG checksums and EXIF directories.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice, repeat
from typing import Literal

from vlrun.errors import DamagedMedia, MediaTooLarge, UnsupportedMedia
from vlrun.media.gif_blocks import GIF_MAGIC, gif_blocks
from vlrun.media.jpeg_segments import END, JPEG_MAGIC, SCAN, jpeg_segments

MAX_SEGMENTS = 256
"""Limit for the segments and scans of a JPEG, and for the non-pixel chunks of a PNG (compressed ones count as 16).

Small segments can be expensive: a JPEG scan of 100 bytes rewrites the whole image (20 ms for 50 megapixels), a PNG
chunk of 1 kB inflates to 1 MB (2 ms), and EXIF segments are joined in quadratic time. Valid files have fewer: 15 MB of
metadata take 240 full segments, progressive JPEGs have about 10 scans.
"""

MAX_SCANS = 64
"""Limit for the scans of a JPEG: each visits all its pixels again (90 ms for 89 megapixels), even a scan of 100 bytes.
Progressive JPEGs have about 10, those of optimizing encoders up to 20."""
MAX_STRIPS = 100_000
"""Limit for the strips or tiles of a TIFF. Pillow takes 10 us and 500 bytes for each."""
MAX_GIF_BLOCKS = 10_000
"""Limit for what costs time to skip in a GIF, see `gif_blocks`. Pillow takes 1 us for each, even of one byte."""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_INFLATED = (b"iCCP", b"zTXt", b"iTXt")  # each inflates to at most 1 MB while the header is read
_INFLATED_WEIGHT = 16
_BMP_MAGIC = b"BM"
_BMP_RUN_LENGTHS = (1, 2)  # decoded in Python: 30 KB take 10 s
_JPEG_SKIPPED = 4096
_TIFF_FORMATS: Mapping[bytes, tuple[str, str, str]] = {
    b"II*\0": ("<I", "<H", "<HHI4x"),
    b"MM\0*": (">I", ">H", ">HHI4x"),
    b"II+\0": ("<4xQ", "<Q", "<HHQ8x"),
    b"MM\0+": (">4xQ", ">Q", ">HHQ8x"),
}
"""Offset of the first directory after the magic, its number of entries, and an entry: tag, type, number of values."""
_TIFF_OFFSETS = (273, 324)  # of strips, of tiles


def check_cost(encoded: bytes, name: str) -> None:
    """Check what makes a small file slow to decode, but for its pixels. Raises MediaTooLarge."""
    if encoded.startswith(JPEG_MAGIC) and _jpeg_scans(encoded) > MAX_SCANS:
        raise MediaTooLarge(f"{name} has more than {MAX_SCANS} scans, the limit: save it as a baseline JPEG")
    if encoded[:4] in _TIFF_FORMATS and _tiff_strips(encoded, *_TIFF_FORMATS[encoded[:4]]) > MAX_STRIPS:
        raise MediaTooLarge(f"{name} has more than {MAX_STRIPS:,} strips or tiles, the limit: save it with larger ones")
    if encoded.startswith(GIF_MAGIC) and len(list(islice(gif_blocks(encoded), MAX_GIF_BLOCKS + 1))) > MAX_GIF_BLOCKS:
        raise MediaTooLarge(f"{name} has more than {MAX_GIF_BLOCKS:,} blocks, the limit: save it as PNG")


def _jpeg_scans(encoded: bytes) -> int:
    scans = (marker for marker in _counted_jpeg_segments(encoded) if marker == SCAN)
    return len(list(islice(scans, MAX_SCANS + 1)))


def _tiff_strips(encoded: bytes, first: str, number: str, entry: str) -> int:
    """Return the number of strips or tiles of the first page; 0 for an incomplete directory: Pillow refuses it."""
    try:
        start = struct.unpack_from(first, encoded, 4)[0]
        entries = struct.unpack_from(number, encoded, start)[0]
        start += struct.calcsize(number)
        end = min(start + entries * struct.calcsize(entry), len(encoded))
        tags = struct.iter_unpack(entry, encoded[start : end - (end - start) % struct.calcsize(entry)])
        return max((count for tag, _, count in tags if tag in _TIFF_OFFSETS), default=0)
    except (struct.error, OverflowError):
        return 0


def check_segments(encoded: bytes, name: str) -> None:
    """Check the segments of formats whose headers Pillow parses in Python.

    Raises:
        MediaTooLarge: There are more than ``MAX_SEGMENTS``.
        UnsupportedMedia: A BMP is compressed.
        ValueError: A PNG checksum is wrong.
    """
    if encoded.startswith(_BMP_MAGIC) and int.from_bytes(encoded[30:34], "little") in _BMP_RUN_LENGTHS:
        raise UnsupportedMedia(f"{name} is a compressed BMP: save it as PNG")
    for magic, walk in ((JPEG_MAGIC, _counted_jpeg_segments), (_PNG_MAGIC, _png_chunks)):
        if encoded.startswith(magic) and len(list(islice(walk(encoded), MAX_SEGMENTS + 1))) > MAX_SEGMENTS:
            raise MediaTooLarge(f"{name} has more than {MAX_SEGMENTS} segments, the limit")


def _counted_jpeg_segments(encoded: bytes) -> Iterator[int]:
    """Yield the marker of each segment and scan. Before the first scan, every ``_JPEG_SKIPPED`` bytes between segments
    count as one, because Pillow skips them one by one.
    """
    scanning = False
    for marker, skipped, _ in jpeg_segments(encoded):
        if marker == END:
            return
        yield from repeat(marker, 1 if scanning else 1 + skipped // _JPEG_SKIPPED)
        scanning = scanning or marker == SCAN


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
