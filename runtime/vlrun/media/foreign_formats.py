"""Recognizes files that users take for images, and that vlrun does not read: photos of phones, PDF, videos."""

from __future__ import annotations

_BRANDS = {"a HEIC photo": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "an AVIF image": (b"avif",)}
"""The first brand of an ISO base media file; any other is a video."""
_SIGNATURES = {b"%PDF": "a PDF file", b"\x1aE\xdf\xa3": "a video"}
_XML = (b"<?xml", b"<svg", b"<!--", b"<!DOCTYPE")
_SVG_BYTES = 1024
"""Where the first element of an SVG is expected, behind comments."""


def foreign_format(encoded: bytes) -> str | None:
    """Return what a file is, such as "a PDF file"; None if that is not known, also for formats that vlrun reads."""
    if encoded[4:8] == b"ftyp" and len(encoded) >= 12:
        return next((kind for kind, brands in _BRANDS.items() if encoded[8:12] in brands), "a video")
    beginning = encoded[:_SVG_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if beginning.startswith(_XML) and b"<svg" in beginning:
        return "an SVG drawing"
    return _SIGNATURES.get(encoded[:4])
