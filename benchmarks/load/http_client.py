"""A small HTTP/1.1 client for load generation: little work per request, a chosen source address, abort at any
moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

Address = tuple[str, int]
JSON = "application/json"


@dataclass(frozen=True)
class ResponseHead:
    """Status and headers of a response; names of headers are in lower case."""

    status: int
    headers: dict[str, str]

    @property
    def retry_after(self) -> float | None:
        """Seconds of the Retry-After header, if there is one."""
        result = self.headers.get("retry-after")
        return None if result is None else float(result)

    @property
    def stream(self) -> bool:
        """Whether server-sent events follow."""
        return self.headers.get("content-type", "").startswith("text/event-stream")


def request(address: Address, path: str, body: bytes | None = None, content_type: str = JSON) -> bytes:
    """Build a request: POST with a body, GET without."""
    host, port = address
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {host}:{port}"]
    if body is not None:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode() + (body or b"")


class Connection:
    """A connection for one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._complete = True

    @classmethod
    async def open(cls, address: Address, source: str) -> Connection:
        """Connect from ``source``, a local address. Raises OSError."""
        return cls(*await asyncio.open_connection(*address, local_addr=(source, 0)))

    @property
    def usable(self) -> bool:
        """Whether another request can be sent: the last response is complete, and the connection is open."""
        return self._complete and not self._reader.at_eof() and not self._writer.is_closing()

    async def send(self, raw: bytes) -> None:
        """Send a request or a part of one. Raises OSError."""
        self._complete = False
        self._writer.write(raw)
        await self._writer.drain()

    async def head(self) -> ResponseHead:
        """Receive the head of the response. Raises OSError, and EOFError if the connection closes before its end."""
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        return ResponseHead(int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs})

    async def chunks(self, head: ResponseHead) -> AsyncIterator[bytes]:
        """Receive the body chunk by chunk. Raises as ``head`` does."""
        if head.headers.get("transfer-encoding") == "chunked":
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                yield (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readexactly(2)
        else:
            yield await self._reader.readexactly(int(head.headers["content-length"]))
        self._complete = head.headers.get("connection") != "close"

    def abort(self) -> None:
        """Abort the connection; unread data makes this a reset."""
        self._writer.transport.abort()


class KeepAliveClient:
    """A client with a source address that keeps one connection open between requests."""

    def __init__(self, address: Address, source: str) -> None:
        self._address = address
        self._source = source
        self._link: Connection | None = None

    async def connected(self) -> Connection:
        """Return a usable connection. Raises OSError."""
        if self._link and not self._link.usable:
            self.abort()
        if self._link is None:
            self._link = await Connection.open(self._address, self._source)
        return self._link

    async def send_request(
        self, raw: bytes, lost: Callable[[], bool] = lambda: False
    ) -> tuple[Connection, ResponseHead]:
        """Send a request and receive the head of its response.

        A kept connection may have been closed in the meantime; then the request is repeated once on a new one, as
        other clients do, unless ``lost()``. Raises OSError and EOFError.
        """
        before = self._link
        connection = await self.connected()
        try:
            await connection.send(raw)
            return connection, await connection.head()
        except (OSError, EOFError):
            if connection is not before or lost():
                raise
        self.abort()
        connection = await self.connected()
        await connection.send(raw)
        return connection, await connection.head()

    def abort(self) -> None:
        """Abort the connection."""
        if self._link:
            self._link.abort()
        self._link = None

    async def ask(self, raw: bytes) -> tuple[int, bytes]:
        """Send a request; returns status and body of the whole response. Raises OSError and EOFError."""
        connection, head = await self.send_request(raw)
        return head.status, b"".join([chunk async for chunk in connection.chunks(head)])
