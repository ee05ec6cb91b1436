"""Recognizes files by their first bytes: photos of phones, PDF, videos, and what vlrun does not read, such as SVG."""

from __future__ import annotations

import re

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
"""Brands of an ISO base media file; one that has none of them first is a video."""
_QUICKTIME_BOXES = (b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot")
"""First in files of old cameras, which have no brand."""
_VIDEO_MAGIC = (b"\x1aE\xdf\xa3", b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"\0\0\x01\xba", b"OggS")
"""Of Matroska and WebM, Flash, Windows Media, MPEG program streams, and Ogg."""
_PACKET = 188
"""Bytes of a packet of an MPEG transport stream, which begins with a G; in .mts files after four bytes."""
VIDEO_BYTES = 512
"""Of the beginning of a file, in which a video is recognized."""
_PDF_BYTES = 1024
"""Where readers of PDF expect its header, behind what mail programs and printers put before it."""
_XML = (b"<?xml", b"<svg", b"<!--", b"<!DOCTYPE")
_SVG_BYTES = 1024
"""Where the first element of an SVG is expected, behind comments."""


def is_heif(encoded: bytes) -> bool:
    """Return whether a file is a HEIC photo, or another HEIF image but AVIF."""
    return _is_base_media(encoded) and encoded[8:12] in _HEIF_BRANDS and not _has_avif_brand(encoded)


def is_heif_or_avif(encoded: bytes) -> bool:
    """Return whether a file is a HEIF image of any kind, AVIF included."""
    return _is_base_media(encoded) and encoded[8:12] in (*_HEIF_BRANDS, *_AVIF_BRANDS)


def is_pdf(encoded: bytes) -> bool:
    """Return whether a file is a PDF."""
    before, header, _ = encoded[:_PDF_BYTES].partition(b"%PDF-")
    return bool(header) and not re.search(b"[\0\xff]", before)  # the metadata of an image may have these letters


def is_video(encoded: bytes) -> bool:
    """Return whether a file, or its first ``VIDEO_BYTES``, is that of a video, or of sound in the same container."""
    if _is_base_media(encoded):
        return not is_heif_or_avif(encoded)
    if encoded.startswith(_VIDEO_MAGIC) or (encoded[4:8] in _QUICKTIME_BOXES and encoded[:1] == b"\0"):
        return True
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"AVI ":
        return True
    return any(encoded[first::size][:2] == b"GG" for first, size in ((0, _PACKET), (4, _PACKET + 4)))


def foreign_format(encoded: bytes) -> str | None:
    """Return what a file is that vlrun does not read, such as "an SVG drawing"; None if that is not known."""
    beginning = encoded[:_SVG_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if beginning.startswith(_XML) and b"<svg" in beginning:
        return "an SVG drawing"
    return None


def _is_base_media(encoded: bytes) -> bool:
    return encoded[4:8] == b"ftyp" and len(encoded) >= 12


def _has_avif_brand(encoded: bytes) -> bool:
    """Return whether a brand of AVIF is among all that the file claims to be compatible with."""
    brands = encoded[8 : min(int.from_bytes(encoded[:4], "big"), 256)]
    return any(brands[start : start + 4] in _AVIF_BRANDS for start in range(0, len(brands), 4))
