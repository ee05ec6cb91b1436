"""HTTP/1.1 as a load generator needs it: little work for each request, an address of its own, leaving at any moment.

Knows sockets and framing; does not know what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

Address = tuple[str, int]
JSON = "application/json"


@dataclass(frozen=True)
class Head:
    """The beginning of an answer. ``headers``: by their names in lower case."""

    status: int
    headers: dict[str, str]

    @property
    def retry_after(self) -> float | None:
        """Seconds after which to come again, if that was told."""
        told = self.headers.get("retry-after")
        return None if told is None else float(told)

    @property
    def stream(self) -> bool:
        """Whether events follow."""
        return self.headers.get("content-type", "").startswith("text/event-stream")


def request(address: Address, path: str, body: bytes | None = None, kind: str = JSON) -> bytes:
    """The bytes of a request: POST with a body, GET without."""
    host, port = address
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {host}:{port}"]
    if body is not None:
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode() + (body or b"")


class Link:
    """One connection, for one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._whole = True

    @classmethod
    async def open(cls, address: Address, source: str) -> Link:
        """Connect from ``source``, an address of this machine. Raises OSError."""
        return cls(*await asyncio.open_connection(*address, local_addr=(source, 0)))

    @property
    def usable(self) -> bool:
        """Whether another request can go over it: the last answer is complete, and nobody has hung up."""
        return self._whole and not self._reader.at_eof() and not self._writer.is_closing()

    async def send(self, raw: bytes) -> None:
        """Send a request, or a part of one. Raises OSError."""
        self._whole = False
        self._writer.write(raw)
        await self._writer.drain()

    async def head(self) -> Head:
        """The head of the answer. Raises OSError, and EOFError if the other side hangs up before it is complete."""
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        return Head(int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs})

    async def pieces(self, head: Head) -> AsyncIterator[bytes]:
        """The body as it comes, chunk by chunk. Raises as ``head`` does."""
        if head.headers.get("transfer-encoding") == "chunked":
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                yield (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readexactly(2)
        else:
            yield await self._reader.readexactly(int(head.headers["content-length"]))
        self._whole = head.headers.get("connection") != "close"

    def leave(self) -> None:
        """Go without a word. Whatever was not read makes it a reset."""
        self._writer.transport.abort()


class Caller:
    """Somebody with an address, ``source``, who keeps one connection open from request to request."""

    def __init__(self, address: Address, source: str) -> None:
        self._address = address
        self._source = source
        self._link: Link | None = None

    async def connected(self) -> Link:
        """A connection that can be used. Raises OSError."""
        if self._link and not self._link.usable:
            self.leave()
        if self._link is None:
            self._link = await Link.open(self._address, self._source)
        return self._link

    async def begin(self, raw: bytes, lost: Callable[[], bool] = lambda: False) -> tuple[Link, Head]:
        """Send a request; the head of its answer. A connection that was left open may have been closed meanwhile: then
        another one is tried, as every client does, unless the request is ``lost``. Raises OSError and EOFError.
        """
        before = self._link
        link = await self.connected()
        try:
            await link.send(raw)
            return link, await link.head()
        except (OSError, EOFError):
            if link is not before or lost():
                raise
        self.leave()
        link = await self.connected()
        await link.send(raw)
        return link, await link.head()

    def leave(self) -> None:
        """Hang up."""
        if self._link:
            self._link.leave()
        self._link = None

    async def ask(self, raw: bytes) -> tuple[int, bytes]:
        """Status and body of the whole answer. Raises OSError and EOFError."""
        link, head = await self.begin(raw)
        return head.status, b"".join([piece async for piece in link.pieces(head)])
