"""A server with prepared responses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence

from benchmarks.load.http_client import Address

BUSY = b"HTTP/1.1 429 Too Many\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
BROKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
HUNG_UP = b""
FAILED = b"HTTP/1.1 500 Failed\r\nContent-Length: 2\r\n\r\n{}"


def answer(body: object) -> bytes:
    encoded = json.dumps(body).encode()
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(encoded)}\r\n\r\n".encode() + encoded


def serve_responses(replies: Sequence[bytes], scenario: Callable[[Address], Awaitable[None]]) -> int:
    """Run a client scenario against a server that sends one response per request; return the number of connections."""
    connections = 0
    remaining = list(replies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while remaining:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = head.lower().partition(b"content-length: ")[2]
            await reader.readexactly(int(length.split(b"\r")[0] or 0))
            response = remaining.pop(0)
            writer.write(response)
            if response in (BROKEN, HUNG_UP):
                break
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1") as server:
            await scenario(server.sockets[0].getsockname())

    asyncio.run(asyncio.wait_for(run(), 10))
    return connections
