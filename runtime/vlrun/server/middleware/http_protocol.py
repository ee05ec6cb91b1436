"""HTTP/1.1 from untrusted clients: deadlines, sizes and framing, before any handler is called.

A subclass of uvicorn's ``H11Protocol``, because no server has what it adds (measured with uvicorn 0.54, granian and
hypercorn, behind Starlette 1.10):

- a deadline for headers: uvicorn never closes a connection with half a header; granian does after 30 s, hypercorn 4 s;
- bounds on headers: uvicorn and hypercorn accept 5,000 headers, granian 300 KB of them; h11's own size limit does not
  hold for a head that arrives in one read;
- refusing Content-Length together with Transfer-Encoding, which all three accept;
- a write timeout for clients that read nothing or next to nothing;
- bounds on connections, of all clients and of each, that silent ones and slow bodies cannot exhaust.

It relies on undocumented parts of uvicorn 0.54, which setup.cfg therefore pins: ``data_received`` and
``on_response_complete`` call ``self.handle_events()``, which calls ``self.conn.next_event()`` and lets every exception
but ``h11.RemoteProtocolError`` pass; ``self.conn``, ``logger``, ``access_log`` and ``timeout_keep_alive`` are read at
each use; ``timeout_keep_alive_task`` is None whenever it does not run; a cycle's ``disconnected`` and ``message_event``
tell the app that its client has left, and ``keep_alive = False`` closes the connection after the answer;
``self.connections`` is the set of all connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, ClassVar

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.limits import ServerLimits
from vlrun.server.logging import log_event

SEND_BUFFER = 64 * 1024
"""Bytes of the kernel's send buffer, which Linux doubles. With the default, a client that reads nothing is noticed
megabytes late."""
MAX_CHUNKS = 16 * 1024
"""Chunks of a body: 15 MiB in 1 KiB each. A chunk costs about 10 us of the event loop."""
IPV6_NETWORK = 64
"""Bits of an IPv6 address that a provider assigns: whoever has them has all addresses below."""
BODY_GRACE = 1.0
"""Seconds for a handler to answer 408 by itself, before the connection is closed."""
SILENT_SECONDS = 1.0
"""After which a connection without a request may be closed in favour of a new one."""
LINGER_SECONDS = 2.0
"""For which a refused client may go on sending: closed at once, it would get a reset instead of the answer."""

MALFORMED = bad_request("the request is not valid HTTP/1.1", code="malformed_request")
NO_PATH = bad_request("the request target must be a path", code="malformed_request")
FRAMING = bad_request("a request has one Content-Length or one Transfer-Encoding", code="malformed_request")
TOO_MANY_CHUNKS = bad_request("the body comes in too many chunks", code="malformed_request")
TOO_SLOW = ApiError(408, "the request did not arrive in time", "request_timeout")
TARGET_TOO_LONG = ApiError(414, "the request target is too long", "target_too_long")
HEAD_TOO_LARGE = ApiError(431, "the request headers are too large or too many", "headers_too_large")
TOO_MANY = ApiError(503, "too many connections are open", "busy", retry_after=1)
TOO_MANY_OF_CLIENT = ApiError(503, "too many connections of this client are open", "busy", retry_after=1)

_HEAD_END = re.compile(rb"\n\r?\n")
_MUTED = logging.getLogger("vlrun.server.middleware.http_protocol")
"""uvicorn would log each bad request and the traceback of each failed app; security.py logs failures."""
_MUTED.setLevel(logging.CRITICAL + 1)


class _Connection(h11.Connection):
    """h11 with bounds on heads and chunks."""

    def __init__(self, limits: ServerLimits) -> None:
        super().__init__(h11.SERVER, limits.header_bytes)
        self._limits = limits
        self._chunks = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """As h11's, but raises ApiError only."""
        if self.their_state is h11.IDLE:
            self._chunks = 0
            _check_head(self.trailing_data[0], self._limits)
        try:
            event = super().next_event()
        except h11.RemoteProtocolError:
            raise replace(MALFORMED) from None
        self._chunks += isinstance(event, h11.Data) and event.chunk_start
        if self._chunks > MAX_CHUNKS:
            raise replace(TOO_MANY_CHUNKS)
        return event


def _check_head(received: bytes, limits: ServerLimits) -> None:
    """Check a request's head, or as much of it as was received. Raises ApiError; the rest is checked by h11."""
    end = _HEAD_END.search(received, 0, limits.header_bytes)
    if end is None and len(received) <= limits.header_bytes:
        return
    lines = received[: end.start() if end else None].split(b"\n")
    if len(max(lines[0].split(b" "), key=len)) > limits.target_length:
        raise replace(TARGET_TOO_LONG)
    if end is None or len(lines) - 1 > limits.header_count:
        raise replace(HEAD_TOO_LARGE)
    method, _, rest = lines[0].partition(b" ")
    if method == b"CONNECT" or not rest.startswith(b"/"):
        raise replace(NO_PATH)
    if any(line[:1] in (b" ", b"\t") for line in lines):  # a folded header, which other parsers read differently
        raise replace(MALFORMED)
    # h11 merges equal Content-Lengths, and lets Transfer-Encoding win over them.
    names = [line.partition(b":")[0].lower() for line in lines[1:]]
    lengths = [line for line, name in zip(lines[1:], names, strict=True) if name == b"content-length"]
    chunked = b"transfer-encoding" in names
    if len(lengths) + chunked > 1 or any(b"," in line for line in lengths):
        raise replace(FRAMING)
    if chunked and not rest.rstrip(b"\r").endswith(b"HTTP/1.1"):
        raise replace(FRAMING)


def _network(host: str) -> str:
    """The address of a client; of IPv6 the network, which has one owner."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:  # a socket for both families
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_NETWORK), strict=False))


def _raw_response(error: ApiError) -> bytes:
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in error.all_headers()]
    return "\r\n".join((*lines, "cache-control: no-store", "connection: close", "", "")).encode() + error.body()


class _LimitedProtocol(H11Protocol):
    """A connection. ``_phase``: the part of a request that must arrive before ``_deadline``."""

    limits: ClassVar[ServerLimits]
    on_response: ClassVar[Callable[[int], None]]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = _Connection(self.limits)
        self.timeout_keep_alive = self.limits.idle_seconds  # type: ignore[assignment]  # goes to call_later as it is
        self.logger = _MUTED
        self.access_log = False
        self._address = ""
        self._refused = False
        self._phase = ""
        self._silent_since = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline, or refuse the connection if there are too many."""
        super().connection_made(transport)
        self._address = _network(self.client[0]) if self.client else ""
        if error := self._make_room():
            self._refused = True
            self._write(error)
            transport.close()  # at once: it is one too many
            return
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        transport.set_write_buffer_limits(high=0)  # every unread byte calls pause_writing
        self._watch()

    def _make_room(self) -> ApiError | None:
        """Close another connection if there are too many. Return the error if none can be closed.

        Silent connections are closed first. Then a client that has more of them than ours loses one whose request is
        incomplete.
        """
        everyone = (other for other in self.connections if isinstance(other, _LimitedProtocol))
        connections = [other for other in everyone if not other.transport.is_closing()]
        own = [other for other in connections if other._address == self._address]
        if len(own) > self.limits.client_connections:
            return None if _close_silent(own) else TOO_MANY_OF_CLIENT
        if len(connections) <= self.limits.connections or _close_silent(connections):
            return None
        counts = Counter(other._address for other in connections)
        incomplete = [other for other in connections if other.conn.their_state is h11.SEND_BODY]
        largest = max(incomplete, key=lambda other: counts[other._address], default=self)
        if counts[largest._address] <= len(own):
            return TOO_MANY
        largest._refuse(replace(TOO_MANY))
        largest.transport.close()
        return None

    @property
    def silence(self) -> float:
        """Seconds without a request; 0 during one."""
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return 0.0
        return self.loop.time() - self._silent_since

    def _write(self, error: ApiError) -> None:
        """Answer with ``error``. The log line has no text of the request, which was not understood."""
        log_event("refused", status=error.status, code=error.code, client=self.client[0] if self.client else None)
        self.transport.write(_raw_response(error))
        type(self).on_response(error.status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadlines."""
        for timer in (self._deadline, self._stall):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Drop data that comes during an answer, and close the connection after it: uvicorn would stop reading, and not
        notice when the client leaves.
        """
        if self._refused:
            return
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self.cycle.keep_alive = False
            return
        super().data_received(data)

    def handle_events(self) -> None:
        """Process events; errors are answered, and the deadline is set."""
        try:
            super().handle_events()
        except ApiError as error:
            self._refuse(error)
        else:
            self._watch()

    def on_response_complete(self) -> None:
        """The connection is silent from now on."""
        self._silent_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Start the write timeout."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """The client has read everything."""
        if self._stall:
            self._stall.cancel()
        super().resume_writing()

    def _should_upgrade(self) -> bool:
        return False  # uvicorn would log a warning

    def _wait_for_reader(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._stall = self.loop.call_later(self.limits.write_seconds, self._check_reader, unread)

    def _check_reader(self, before: int) -> None:
        read = before - self.transport.get_write_buffer_size()
        if read >= min(self.limits.read_rate * self.limits.write_seconds, before):
            self._wait_for_reader()
        else:
            self.transport.abort()

    def _watch(self) -> None:
        """Set the deadline of a phase once: bytes that trickle in do not extend it."""
        phase, seconds = "", 0.0
        if self.conn.their_state is h11.SEND_BODY:
            phase, seconds = "body", self.limits.body_seconds + BODY_GRACE
        elif self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None:
            phase, seconds = "head", self.limits.header_seconds
        if phase != self._phase:
            self._phase = phase
            self._set_deadline(seconds if phase else None)

    def _set_deadline(self, seconds: float | None) -> None:
        if self._deadline:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if self._refused or self.transport.is_closing():
            self.transport.abort()
        elif self._phase == "head" and not self.conn.trailing_data[0]:
            self.transport.close()  # browsers open connections ahead of requests
        else:
            self._refuse(TOO_SLOW)

    def _refuse(self, error: ApiError) -> None:
        """Answer with ``error``, unless an answer has begun, and close the connection."""
        self._refused = True
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started and not self.cycle.response_complete:
                self.transport.abort()
                return
        self._write(error)
        with contextlib.suppress(OSError):  # it may have left
            self.transport.write_eof()
        self.flow.resume_reading()
        self._set_deadline(LINGER_SECONDS)


def _close_silent(connections: Sequence[_LimitedProtocol]) -> bool:
    """Close the longest silent connection, if there is one."""
    longest = max(connections, key=lambda other: other.silence)
    if longest.silence < SILENT_SECONDS:
        return False
    longest.transport.close()
    return True


def protocol(limits: ServerLimits, on_response: Callable[[int], None]) -> type[H11Protocol]:
    """The class for uvicorn's ``Config(http=...)``, whose ``limit_concurrency`` must not be set: it answers by itself.
    ``on_response`` gets the status of each answer that did not come from the application.
    """
    members = {"limits": limits, "on_response": staticmethod(on_response)}
    return type("LimitedProtocol", (_LimitedProtocol,), members)
