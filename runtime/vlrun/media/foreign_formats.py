"""Recognizes files by their first bytes: photos of phones, PDF, and what vlrun does not read, such as videos."""

from __future__ import annotations

import re

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
"""Brands of an ISO base media file; one that has none of them first is a video."""
_SIGNATURES = {b"\x1aE\xdf\xa3": "a video"}
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


def foreign_format(encoded: bytes) -> str | None:
    """Return what a file is that vlrun does not read, such as "a video"; None if that is not known."""
    if _is_base_media(encoded):
        return None if is_heif_or_avif(encoded) else "a video"
    beginning = encoded[:_SVG_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if beginning.startswith(_XML) and b"<svg" in beginning:
        return "an SVG drawing"
    return _SIGNATURES.get(encoded[:4])


def _is_base_media(encoded: bytes) -> bool:
    return encoded[4:8] == b"ftyp" and len(encoded) >= 12


def _has_avif_brand(encoded: bytes) -> bool:
    """Return whether a brand of AVIF is among all that the file claims to be compatible with."""
    brands = encoded[8 : min(int.from_bytes(encoded[:4], "big"), 256)]
    return any(brands[start : start + 4] in _AVIF_BRANDS for start in range(0, len(brands), 4))
