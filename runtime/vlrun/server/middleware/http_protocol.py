"""What a stranger's bytes meet first: deadlines, sizes and framing of HTTP/1.1, before any handler is called.

Knows sockets, uvicorn's protocol class and h11; knows no route, no key and no host name. Its own answers have OpenAI's
shape and fixed words. Of uvicorn 0.54's ``H11Protocol`` it relies on these, none of them documented:

- ``data_received`` and ``on_response_complete`` both go through ``self.handle_events()``, which asks
  ``self.conn.next_event()`` and lets every exception but ``h11.RemoteProtocolError`` pass;
- ``self.conn`` is read at each use, so that ``__init__`` may put another h11 connection there; ``self.logger`` and
  ``self.access_log`` are handed to each request's cycle;
- ``self.timeout_keep_alive`` is the idle time in seconds, ``self.timeout_keep_alive_task`` is None whenever it does not
  run;
- a cycle's ``disconnected`` and ``message_event`` tell the app that its client has left, ``keep_alive = False`` closes
  the connection after the answer; ``send`` waits while ``pause_writing`` is in force;
- an app that returns in the middle of its answer gets its connection closed;
- ``self.connections`` is the server's set of all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.limits import ServerLimits

SEND_BUFFER = 64 * 1024
"""Bytes of the kernel's send buffer, which Linux doubles. Without it a client that reads nothing is noticed megabytes
late; with it, one that reads slowly is seen to read whenever a third of it is gone."""
MAX_CHUNKS = 16 * 1024
"""Of one body: 15 MiB in 1 KiB each. A chunk costs about 10 us of the event loop, and may be a single byte."""
BODY_GRACE = 1.0
"""Seconds that a handler has to say 408 by itself before the connection is closed under it."""
SILENT_SECONDS = 1.0
"""Of a connection on which nothing is asked: then it gives way if another one would be too many."""
LINGER_SECONDS = 2.0
"""That a refused client may go on sending into the void: closed at once it would get a reset in place of the answer."""

MALFORMED = bad_request("the request is not valid HTTP/1.1", code="malformed_request")
NO_PATH = bad_request("the request target must be a path", code="malformed_request")
FRAMING = bad_request("a request has one Content-Length or one Transfer-Encoding", code="malformed_request")
TOO_MANY_CHUNKS = bad_request("the body comes in too many chunks", code="malformed_request")
TOO_SLOW = ApiError(408, "the request did not arrive in time", "request_timeout")
TARGET_TOO_LONG = ApiError(414, "the request target is too long", "target_too_long")
HEAD_TOO_LARGE = ApiError(431, "the request headers are too large or too many", "headers_too_large")
TOO_MANY = ApiError(503, "too many connections are open", "busy", retry_after=1)

_HEAD_END = re.compile(rb"\n\r?\n")
_SILENT = logging.getLogger("vlrun.server.middleware.http_protocol")
"""uvicorn logs each bad request and the traceback of each failed app; guard.py says what is worth a line."""
_SILENT.setLevel(logging.CRITICAL + 1)


class _Refused(Exception):
    """Input that gets ``fault`` as its answer."""

    def __init__(self, fault: ApiError) -> None:
        super().__init__(fault.code)
        self.fault = fault


class _Connection(h11.Connection):
    """h11, which parses a head of any size that arrives in one read, and takes what smugglers and floods need."""

    def __init__(self, limits: ServerLimits) -> None:
        super().__init__(h11.SERVER, limits.header_bytes)
        self._limits = limits
        self._chunks = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """As h11's, but it raises ``_Refused`` alone."""
        if self.their_state is h11.IDLE:
            self._chunks = 0
            if fault := _judge_head(self.trailing_data[0], self._limits):
                raise _Refused(fault)
        try:
            event = super().next_event()
        except h11.RemoteProtocolError:
            raise _Refused(MALFORMED) from None
        self._chunks += isinstance(event, h11.Data) and event.chunk_start
        if self._chunks > MAX_CHUNKS:
            raise _Refused(TOO_MANY_CHUNKS)
        return event


def _judge_head(waiting: bytes, limits: ServerLimits) -> ApiError | None:
    """What is wrong with the head of a request, or with as much of it as came; the rest is for h11 to find."""
    end = _HEAD_END.search(waiting, 0, limits.header_bytes)
    if end is None and len(waiting) <= limits.header_bytes:
        return None
    lines = waiting[: end.start() if end else None].split(b"\n")
    if len(max(lines[0].split(b" "), key=len)) > limits.target_length:
        return TARGET_TOO_LONG
    if end is None or len(lines) - 1 > limits.header_count:
        return HEAD_TOO_LARGE
    return _judge_lines(lines)


def _judge_lines(lines: list[bytes]) -> ApiError | None:
    """Of a whole head. h11 makes one Content-Length of several equal ones and lets Transfer-Encoding win over it."""
    method, _, rest = lines[0].partition(b" ")
    if method == b"CONNECT" or not rest.startswith(b"/"):
        return NO_PATH
    if any(line[:1] in (b" ", b"\t") for line in lines):  # a folded header: who reads the lines otherwise reads others
        return MALFORMED
    names = [line.partition(b":")[0].lower() for line in lines[1:]]
    lengths = [line for line, name in zip(lines[1:], names, strict=True) if name == b"content-length"]
    if len(lengths) > 1 or any(b"," in line for line in lengths):
        return FRAMING
    if b"transfer-encoding" in names and (lengths or not rest.rstrip(b"\r").endswith(b"HTTP/1.1")):
        return FRAMING
    return None


def _raw_answer(fault: ApiError) -> bytes:
    """The answer's bytes, after which the connection is closed."""
    body = fault.body()
    own = (("content-length", str(len(body))), ("cache-control", "no-store"), ("connection", "close"))
    lines = [f"HTTP/1.1 {fault.status} {HTTPStatus(fault.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in (*fault.all_headers(), *own)]
    return "\r\n".join((*lines, "", "")).encode() + body


class _LimitedProtocol(H11Protocol):
    """One connection. ``_phase``: what is waited for until ``_deadline``."""

    limits: ClassVar[ServerLimits]
    answered: ClassVar[Callable[[int], None]]

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
        self.logger = _SILENT
        self.access_log = False
        self._refused = False
        self._phase = ""
        self._silent_since = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, or turn the connection away if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections and not self._make_room():
            self._refused = True
            self._say(TOO_MANY)
            transport.close()  # at once, since a connection that lingers would be one more
            return
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        transport.set_write_buffer_limits(high=0)  # every byte that waits is noticed: pause_writing, then the deadline
        self._watch()

    def _make_room(self) -> bool:
        """Close the connection that has been silent for longest, if there is one: nobody may keep others out by opening
        all there are and saying nothing.
        """
        others = (other for other in self.connections if isinstance(other, _LimitedProtocol))
        longest = max(others, key=lambda other: other.silence)  # ourselves at least
        if longest.silence < SILENT_SECONDS:
            return False
        longest.transport.close()
        return True

    @property
    def silence(self) -> float:
        """Seconds since an answer, or the beginning, if no whole head of a request has come since; 0 otherwise."""
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return 0.0
        return self.loop.time() - self._silent_since

    def _say(self, fault: ApiError) -> None:
        """Answer before any application is asked."""
        self.transport.write(_raw_answer(fault))
        type(self).answered(fault.status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        for timer in (self._deadline, self._stall):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request. What comes while an answer is made is dropped, and the connection closed after it:
        uvicorn would stop reading, and so not see the client leave.
        """
        if self._refused:
            return
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self.cycle.keep_alive = False
            return
        super().data_received(data)

    def handle_events(self) -> None:
        """As uvicorn's, with what it raises turned into an answer of ours, and with the clock."""
        try:
            super().handle_events()
        except _Refused as refused:
            self._refuse(refused.fault)
        else:
            self._watch()

    def on_response_complete(self) -> None:
        """From now on it is silent again."""
        self._silent_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Bytes wait for the client: from now on it has to read."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """All is read."""
        if self._stall:
            self._stall.cancel()
        super().resume_writing()

    def _should_upgrade(self) -> bool:
        return False  # as any other request; uvicorn would log a warning

    def _wait_for_reader(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._stall = self.loop.call_later(self.limits.write_seconds, self._check_reader, left)

    def _check_reader(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._wait_for_reader()
        else:
            self.transport.abort()

    def _watch(self) -> None:
        """Set the deadline of what is waited for, once for each: bytes that trickle in do not put it off."""
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
            self.transport.close()  # browsers open connections ahead; nothing was asked, so nothing is answered
        else:
            self._refuse(TOO_SLOW)

    def _refuse(self, fault: ApiError) -> None:
        """Answer with ``fault``, unless an answer is on its way already, and have done with the connection."""
        self._refused = True
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started and not self.cycle.response_complete:
                self.transport.abort()
                return
        self._say(fault)
        with contextlib.suppress(OSError):  # it may have left
            self.transport.write_eof()
        self.flow.resume_reading()
        self._set_deadline(LINGER_SECONDS)


def protocol(limits: ServerLimits, answered: Callable[[int], None]) -> type[H11Protocol]:
    """The class for uvicorn's ``Config(http=...)``. ``answered`` hears the status of each answer that no application
    gave. Its ``timeout_keep_alive``, ``h11_max_incomplete_event_size`` and
    access log are not used; ``limit_concurrency`` must be left out, since its answer is uvicorn's own.
    """
    return type("LimitedProtocol", (_LimitedProtocol,), {"limits": limits, "answered": staticmethod(answered)})
