"""Server-sent events (WHATWG HTML, 9.2), kept alive by comments.

sse-starlette iterates over a generator of its own; here the status must stay open until the first event, so that a
request that fails before it gets a plain error.
"""

from __future__ import annotations

import time

from starlette.types import Send

HEARTBEAT_SECONDS = 2.0
"""Pause before a comment is sent: proxies close silent streams, and a client that has vanished is noticed by the first
unacknowledged packet.
"""
DONE = b"data: [DONE]\n\n"
CONTENT_TYPE = b"text/event-stream; charset=utf-8"
HEADERS = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))


def event(data: bytes, name: str | None = None) -> bytes:
    """One event. ``data`` must be a single line."""
    return b"".join((f"event: {name}\n".encode() if name else b"", b"data: ", data, b"\n\n"))


def comment(text: str) -> bytes:
    """A line that clients ignore."""
    return f": {text}\n\n".encode()


class EventStream:
    """The stream of one request. It begins with the first thing that is sent."""

    def __init__(self, send: Send, content_type: bytes = CONTENT_TYPE) -> None:
        self._send = send
        self._headers = [(b"content-type", content_type), *HEADERS]
        self._last = time.monotonic()
        self.begun = False

    @property
    def silence(self) -> float:
        """Seconds since anything was sent."""
        return time.monotonic() - self._last

    async def send(self, *events: bytes) -> None:
        """Send events in one packet; no events at all begin the stream."""
        self._last = time.monotonic()
        if not self.begun:
            self.begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await self._send({"type": "http.response.body", "body": b"".join(events), "more_body": True})

    async def end(self) -> None:
        """End the stream."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
