"""A real uvicorn with our protocol class in a thread, and clients that are raw sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlrun.errors import AnswerCancelled
from vlrun.server.api_errors import bad_request
from vlrun.server.limits import ServerLimits
from vlrun.server.middleware.http_protocol import protocol

TIMEOUT_SECONDS = 5.0
"""Seconds after which a test gives up."""
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LIMITS = ServerLimits()


@dataclass(frozen=True)
class RawReply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """Of an error, whose shape is checked on the way."""
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert self.headers["content-type"] == "application/json"
        code: str | None = error["code"]
        return code


@dataclass
class RecordingApp:
    """An app that answers ``ok`` at once; ``calls``: paths it was called for. The paths of its methods do more."""

    calls: list[str] = field(default_factory=list)
    disconnected: threading.Event = field(default_factory=threading.Event)
    """Set when the app hears that its client has left."""
    sent: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls.append(scope["path"])
        handlers = {"/endless": self._endless, "/wait": self._wait, "/begin": self._begin, "/large": self._large}
        handlers |= {"/slow": self._slow, "/fail": self._fail}
        await handlers.get(scope["path"], self._ok)(scope, receive, send)

    async def _ok(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def _slow(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer after a while, deaf to the client."""
        await asyncio.sleep(0.3)
        await self._ok(scope, receive, send)

    async def _fail(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("zebra")

    async def _large(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As many bytes as the query says."""
        size = int(scope["query_string"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size)})

    async def _endless(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client has left."""
        gone = asyncio.create_task(self._wait_for_disconnect(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})
            self.sent += 1000
            await asyncio.sleep(0)

    async def _wait(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer never."""
        await self._wait_for_disconnect(receive)

    async def _begin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin an answer, and never end it."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await self._wait_for_disconnect(receive)

    async def _wait_for_disconnect(self, receive: Receive) -> None:
        message: Message = {"type": ""}
        while message["type"] != "http.disconnect":
            message = await receive()
        self.disconnected.set()


@dataclass
class StubApp:
    """What stands behind a guard: it answers with the name of the key, or fails as its path says."""

    calls: list[str] = field(default_factory=list)
    """Paths that came through the guard."""
    stopping: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls.append(scope["path"])
        name = scope["state"].get("key", "-").encode()
        headers = [(b"content-length", str(len(name)).encode())]
        match scope["path"]:
            case "/zebra":
                raise ValueError("zebra zebra")
            case "/refused":
                raise bad_request("not so", "field")
            case "/cancelled":
                raise AnswerCancelled
            case "/stopped":
                raise asyncio.CancelledError
            case "/silent":
                return
            case "/broken":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"begun", "more_body": True})
                raise ValueError("zebra zebra")
            case "/docs":
                headers += [(b"x-frame-options", b"SAMEORIGIN"), (b"content-security-policy", b"default-src 'self'")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": name})


@dataclass(frozen=True)
class RawServer:
    """A server that runs."""

    port: int
    server: uvicorn.Server
    refused: list[int]
    """Statuses that no application gave."""

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        """A client, with a receive buffer of so many bytes."""
        client = socket.socket()
        client.settimeout(TIMEOUT_SECONDS)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(("127.0.0.1", self.port))
        return client

    def request_once(self, request: bytes) -> RawReply:
        """The answer to ``request`` on a connection of its own."""
        with self.connect() as client:
            send_bytes(client, request)
            return read_reply(client)

    def connections(self) -> int:
        """Open ones, as the server counts them."""
        return len(self.server.server_state.connections)


@contextmanager
def serve_app(
    app: ASGIApp, limits: ServerLimits = LIMITS, listener: socket.socket | None = None
) -> Iterator[RawServer]:
    """A server on a free port of loopback, or on ``listener``, until the block ends."""
    listener = listener or socket.create_server(("127.0.0.1", 0), backlog=512)
    place = listener.getsockname()
    refused: list[int] = []
    never_used = asyncio.Protocol  # a websocket's; made like ours it would raise
    config = uvicorn.Config(
        app,
        http=protocol(limits, refused.append),
        ws=never_used,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield RawServer(place[1] if listener.family == socket.AF_INET else 0, server, refused)
    finally:
        server.should_exit = True
        thread.join()


def send_bytes(client: socket.socket, data: bytes) -> None:
    """Send what can be sent: a refused client may be cut off in the middle."""
    with suppress(ConnectionError):
        client.sendall(data)


def read_reply(client: socket.socket, method: str = "GET") -> RawReply:
    """The next answer."""
    answer = http.client.HTTPResponse(client, method=method)
    answer.begin()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return RawReply(answer.status, headers, answer.read())


def read_to_end(client: socket.socket) -> bytes:
    """Everything until the connection ends, which it has to within ``PATIENCE``."""
    parts = [b""]
    with suppress(ConnectionError):
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def wait_until(condition: Any, seconds: float = TIMEOUT_SECONDS) -> None:
    """Wait for ``condition()``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
