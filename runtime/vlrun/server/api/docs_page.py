"""The page at ``/docs``: Swagger UI with the OpenAPI document. It loads nothing from other addresses."""

from __future__ import annotations

import gzip
import re
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

_CODING = re.compile(r"(?:^|,)(gzip|\*)(?:;q=([01](?:\.[0-9]{0,3})?))?(?=,|$)")


def asset(name: str, accept_encoding: str) -> tuple[bytes, Mapping[bytes, bytes]] | None:
    """One of the page's files and its headers; ``index.html`` is the page. None for any other name.

    ``accept_encoding``: the request's header. The file is gzipped only for those who can read it.
    """
    if name not in TYPES:
        return None
    headers = {b"content-type": TYPES[name], b"content-security-policy": POLICY, b"vary": b"Accept-Encoding"}
    if _accepts_gzip(accept_encoding):
        return _packed(name), headers | {b"content-encoding": b"gzip"}
    return gzip.decompress(_packed(name)), headers


def _accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header asks for gzip (RFC 9110, 12.5.3). Clients without one show what they get."""
    weights = {name: float(weight or 1) for name, weight in _CODING.findall(header.lower().replace(" ", ""))}
    return weights.get("gzip", weights.get("*", 0.0)) > 0


@cache
def _packed(name: str) -> bytes:
    packed = ASSETS / f"{name}.gz"  # the large files are stored gzipped
    return packed.read_bytes() if packed.exists() else gzip.compress((ASSETS / name).read_bytes(), mtime=0)
