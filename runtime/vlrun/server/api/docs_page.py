"""The page at ``/docs``: Swagger UI with the OpenAPI document. It loads nothing from other addresses."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import cache
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
TYPES = {
    "index.html": b"text/html; charset=utf-8",
    "init.js": b"text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "swagger-ui.css": b"text/css; charset=utf-8",
}
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI writes inline styles and draws icons from data URLs; scripts come from files only."""


def asset(name: str) -> tuple[bytes, Mapping[bytes, bytes]] | None:
    """One of the page's files, gzipped, and its headers; ``index.html`` is the page. None for any other name."""
    if name not in TYPES:
        return None
    headers = {b"content-type": TYPES[name], b"content-encoding": b"gzip", b"content-security-policy": POLICY}
    return _packed(name), headers


@cache
def _packed(name: str) -> bytes:
    packed = ASSETS / f"{name}.gz"  # the large files are stored gzipped
    return packed.read_bytes() if packed.exists() else gzip.compress((ASSETS / name).read_bytes(), mtime=0)
