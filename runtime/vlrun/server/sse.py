"""Server-sent events: an answer's stream, kept alive by comments while there is nothing to say.

Knows ASGI's messages and the event format (WHATWG HTML, 9.2); does not know what the events mean.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from starlette.types import Send

HEARTBEAT_SECONDS = 2.0
"""Between two comments while nothing else is sent: proxies close after 30 s or more, and a client that has gone without
a word is found by the first packet that nobody acknowledges.
"""
DONE = b"data: [DONE]\n\n"
HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


def event(data: bytes, name: str | None = None) -> bytes:
    """One event. ``data`` is one line."""
    named = f"event: {name}\n".encode() if name else b""
    return b"".join((named, b"data: ", data, b"\n\n"))


def comment(text: str) -> bytes:
    """A line that clients pass over."""
    return f": {text}\n\n".encode()


class EventStream:
    """The answer of one request as events. It begins with the first thing that is sent."""

    def __init__(self, send: Send, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._send = send
        self._headers = headers
        self.begun = False
        self._last = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since anything was sent."""
        return time.monotonic() - self._last

    async def send(self, *events: bytes) -> None:
        """Send events, in one piece; none at all begins the stream."""
        self._last = time.monotonic()
        if not self.begun:
            self.begun = True
            headers = [*HEADERS, *self._headers]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"".join(events), "more_body": True})

    async def end(self) -> None:
        """The end of the stream."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
