"""Uvicorn with vlrun's protocol class in a thread, and raw-socket clients."""

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
"""Time limit for waits and reads."""
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
MARK = b"zebra"
"""Part of each bad request; must not appear in a response or a log."""
LIMITS = ServerLimits()


@dataclass(frozen=True)
class RawReply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """The error code; also checks the shape of the error."""
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert self.headers["content-type"] == "application/json"
        code: str | None = error["code"]
        return code


@dataclass
class RecordingApp:
    """An app that answers ``ok``; some paths behave otherwise. ``calls``: the requested paths."""

    calls: list[str] = field(default_factory=list)
    disconnected: threading.Event = field(default_factory=threading.Event)
    """Set when the app receives ``http.disconnect``."""
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
        """Answer after a delay without reading from the client."""
        await asyncio.sleep(0.3)
        await self._ok(scope, receive, send)

    async def _fail(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("zebra")

    async def _large(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send as many bytes as the query says."""
        size = int(scope["query_string"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size)})

    async def _endless(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client disconnects."""
        disconnect = asyncio.create_task(self._wait_for_disconnect(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not disconnect.done():
            await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})
            self.sent += 1000
            await asyncio.sleep(0)

    async def _wait(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Never answer."""
        await self._wait_for_disconnect(receive)

    async def _begin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin a response and never end it."""
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
    """An app behind the middleware: it answers with the name of the API key, or fails as its path says."""

    calls: list[str] = field(default_factory=list)
    """Paths of the requests that passed the middleware."""
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
            case "/framed":
                headers += [(b"vary", b"Accept"), (b"content-security-policy", b"frame-ancestors https://x.example")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": name})


@dataclass(frozen=True)
class RawServer:
    port: int
    server: uvicorn.Server
    refused: list[int]
    """Statuses that the protocol sent itself."""

    def connect(self, receive_buffer: int | None = None, source: str = "") -> socket.socket:
        """Open a client socket. ``receive_buffer``: in bytes; ``source``: the client's address."""
        client = socket.socket()
        client.settimeout(TIMEOUT_SECONDS)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            client.bind((source, 0))
        client.connect(("127.0.0.1", self.port))
        return client

    def request_once(self, request: bytes, source: str = "") -> RawReply:
        """Send a request on a new connection and return the response."""
        with self.connect(source=source) as client:
            send_bytes(client, request)
            return read_reply(client)

    def connections(self) -> int:
        """Number of open connections, as the server counts them."""
        return len(self.server.server_state.connections)


@contextmanager
def serve_app(
    app: ASGIApp, limits: ServerLimits = LIMITS, listener: socket.socket | None = None
) -> Iterator[RawServer]:
    """A server on a free port of loopback, or on ``listener``, until the block ends."""
    listener = listener or socket.create_server(("127.0.0.1", 0), backlog=512)
    address = listener.getsockname()
    refused: list[int] = []
    never_used = asyncio.Protocol  # for websockets, which no test opens
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
        yield RawServer(address[1] if listener.family == socket.AF_INET else 0, server, refused)
    finally:
        server.should_exit = True
        thread.join()


def ask(
    server: RawServer, *headers: str, path: str = "/", method: str = "GET", host: str | None = "127.0.0.1:%d"
) -> RawReply:
    """Send a request; ``%d`` in ``host`` and ``headers`` is the port."""
    lines = [f"{method} {path} HTTP/1.1", *([] if host is None else [f"Host: {host}"]), *headers]
    text = "".join(f"{line}\r\n" for line in lines).replace("%d", str(server.port))
    body = b"Content-Length: 2\r\n\r\n{}" if method == "POST" else b"\r\n"
    with server.connect() as client:
        send_bytes(client, text.encode("latin-1") + body)
        return read_reply(client, method)


def send_bytes(client: socket.socket, data: bytes) -> None:
    """Send what can be sent; the server may close the connection meanwhile."""
    with suppress(ConnectionError):
        client.sendall(data)


def read_reply(client: socket.socket, method: str = "GET") -> RawReply:
    answer = http.client.HTTPResponse(client, method=method)
    answer.begin()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return RawReply(answer.status, headers, answer.read())


def read_to_end(client: socket.socket) -> bytes:
    """Read until the connection ends, within ``TIMEOUT_SECONDS``."""
    parts = [b""]
    with suppress(ConnectionError):
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def wait_until(condition: Any, seconds: float = TIMEOUT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.005)


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join((first, b"Host: h", *lines, b"", b""))


def post(*lines: bytes) -> bytes:
    return head(*lines, first=b"POST /wait HTTP/1.1")
