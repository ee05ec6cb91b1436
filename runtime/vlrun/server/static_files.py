"""Files that are sent as they are: those of the web page and of ``/docs``, read once when the service starts."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from starlette.types import Scope, Send

TYPES: Mapping[str, bytes] = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".jpg": b"image/jpeg",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
    ".webmanifest": b"application/manifest+json",
    ".webp": b"image/webp",
}
"""By the ending of a name. Other files, such as a README.md, are not served."""

_CODING = re.compile(r"(?:^|,)(gzip|\*)(?:;q=([01](?:\.[0-9]{0,3})?))?(?=,|$)")


@dataclass(frozen=True)
class StaticFile:
    """A file. ``headers``: all of its headers that do not depend on the request; ``packed``: its gzipped content, None
    if that would not be smaller.
    """

    content: bytes
    packed: bytes | None
    headers: Mapping[bytes, bytes]

    @cached_property
    def _hash(self) -> str:
        return hashlib.sha256(self.content).hexdigest()[:32]

    async def send(self, scope: Scope, send: Send) -> None:
        """Answer a request with the file: gzipped if it accepts that, and 304 if it has the file."""
        packed = self.packed if accepts_gzip(_header(scope, b"accept-encoding")) else None
        etag = f'"{self._hash}{"-gzip" if packed else ""}"'
        known = {tag.strip().removeprefix("W/") for tag in _header(scope, b"if-none-match").split(",")}
        vary = b", ".join(filter(None, (self.headers.get(b"vary"), b"Accept-Encoding")))
        headers = {**self.headers, b"etag": etag.encode(), b"vary": vary}
        status, body = 200, packed or self.content
        if known & {etag, "*"}:
            status, body = 304, b""
        else:
            headers[b"content-length"] = str(len(body)).encode()
            headers |= {b"content-encoding": b"gzip"} if packed else {}
        await send({"type": "http.response.start", "status": status, "headers": list(headers.items())})
        await send({"type": "http.response.body", "body": body})


def read_files(
    folder: Path, headers: Mapping[bytes, bytes], names: Collection[str] | None = None
) -> dict[str, StaticFile]:
    """Read the files in a folder and its subfolders, by their path inside it.

    A file ``NAME.gz`` is the stored gzipped content of ``NAME``. ``names``: only these; by default all of a known
    type.
    """
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix().removesuffix(".gz")
        suffix = Path(name).suffix
        if suffix not in TYPES or (names is not None and name not in names):
            continue
        content, own = path.read_bytes(), {b"content-type": TYPES[suffix], **headers}
        if path.suffix == ".gz":
            found[name] = StaticFile(gzip.decompress(content), content, own)
        else:
            found[name] = static_file(content, own)
    return found


def static_file(content: bytes, headers: Mapping[bytes, bytes]) -> StaticFile:
    """A file with its content type in ``headers``."""
    packed = gzip.compress(content, mtime=0)
    return StaticFile(content, packed if len(packed) < len(content) else None, headers)


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header asks for gzip (RFC 9110, 12.5.3). Clients without one show what they get."""
    weights = {name: float(weight or 1) for name, weight in _CODING.findall(header.lower().replace(" ", ""))}
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _header(scope: Scope, name: bytes) -> str:
    values: list[str] = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return ",".join(values)
