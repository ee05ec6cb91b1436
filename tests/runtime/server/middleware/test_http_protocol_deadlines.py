"""Deadlines of the HTTP protocol class: slow heads, slow bodies, idle connections, slow readers. Rows 26 and 28."""

from __future__ import annotations

import select
import socket
import time

import pytest

from tests.runtime.server.middleware.raw_server import (
    GET,
    MARK,
    RecordingApp,
    head,
    post,
    read_reply,
    read_to_end,
    send_bytes,
    serve_app,
    wait_until,
)
from vlrun.server.limits import ServerLimits
from vlrun.server.middleware import http_protocol as protocol_module

pytestmark = [pytest.mark.usefixtures("no_warnings"), pytest.mark.slow]  # waits for real deadlines


def trickle(client: socket.socket, data: bytes) -> None:
    """Send a byte every 20 ms until a response arrives."""
    for byte in data:
        if select.select([client], [], [], 0.02)[0]:
            return
        send_bytes(client, bytes([byte]))


@pytest.mark.fault(26)
@pytest.mark.parametrize("before", [b"", GET], ids=["first request", "further request"])
def test_slow_headers_do_not_extend_the_deadline(before: bytes) -> None:
    """Uvicorn never closes such a connection."""
    with serve_app(RecordingApp(), ServerLimits(header_seconds=0.3)) as server, server.connect() as client:
        if before:
            send_bytes(client, before)
            assert read_reply(client).status == 200
        began = time.monotonic()
        trickle(client, b"GET /" + MARK * 100)
        answer = read_reply(client)
        assert read_to_end(client) == b""
        assert time.monotonic() - began < 1
        assert (answer.status, answer.code) == (408, "request_timeout")


@pytest.mark.fault(26)
def test_silent_connections_are_closed_and_others_served() -> None:
    """Uvicorn never closes a connection that sends nothing."""
    with serve_app(RecordingApp(), ServerLimits(header_seconds=0.5, client_connections=256)) as server:
        idle = [server.connect() for _ in range(200)]
        wait_until(lambda: server.connections() == 200)
        assert server.request_once(GET).body == b"ok"
        assert [read_to_end(client) for client in idle] == [b""] * 200
        wait_until(lambda: server.connections() == 0)
        for client in idle:
            client.close()


@pytest.mark.fault(26)
def test_an_idle_connection_is_closed_after_its_last_answer() -> None:
    with (
        serve_app(RecordingApp(), ServerLimits(idle_seconds=0.4, header_seconds=0.1)) as server,
        server.connect() as client,
    ):
        for _ in range(3):
            send_bytes(client, GET)
            assert read_reply(client).body == b"ok"
            time.sleep(0.2)  # each request restarts the idle time
        began = time.monotonic()
        assert read_to_end(client) == b""
        assert time.monotonic() - began < 0.6


@pytest.fixture
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> ServerLimits:
    """Body deadlines short enough for a test."""
    monkeypatch.setattr(protocol_module, "BODY_GRACE", 0.1)
    return ServerLimits(body_seconds=0.2)


def test_a_slow_body_ends_a_request_that_does_not_read_it(short_deadlines: ServerLimits) -> None:
    """The app gets a disconnect, or it would wait forever."""
    app = RecordingApp()
    with serve_app(app, short_deadlines) as server, server.connect() as client:
        began = time.monotonic()
        send_bytes(client, post(b"Content-Length: 1000"))
        trickle(client, MARK * 100)
        answer = read_reply(client)
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert read_to_end(client) == b""
        assert time.monotonic() - began < 1
        assert app.disconnected.wait(1)


@pytest.mark.parametrize("path", [b"/", b"/slow"], ids=["a head", "a body that the app does not read"])
def test_a_refused_client_that_still_sends_gets_the_response(short_deadlines: ServerLimits, path: bytes) -> None:
    """Closing a socket with unread bytes resets it, and many clients then lose the response."""
    size = 8_000_000
    framing = b"x: " if path == b"/" else b"Content-Length: %d\r\n\r\n" % (size + 1)
    with serve_app(RecordingApp(), short_deadlines) as server, server.connect() as client:
        client.sendall(b"POST " + path + b" HTTP/1.1\r\nHost: h\r\n" + framing)
        for _ in range(size // 100_000):
            client.sendall(b"x" * 100_000)
        assert read_reply(client).status == (431 if path == b"/" else 408)
        assert client.recv(1) == b""  # closed, not reset


def test_a_refused_client_that_stays_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "LINGER_SECONDS", 0.2)
    with serve_app(RecordingApp()) as server, server.connect() as client:
        send_bytes(client, b"zebra\r\n\r\n")
        assert read_reply(client).status == 400
        wait_until(lambda: server.connections() == 0, seconds=1)


def test_no_408_after_a_complete_response(short_deadlines: ServerLimits) -> None:
    """The response is complete and waits for a slow reader when the body deadline passes."""
    with serve_app(RecordingApp(), short_deadlines) as server, server.connect(receive_buffer=2048) as client:
        send_bytes(client, head(b"Content-Length: 9", b"Connection: close", first=b"POST /large?1000000 HTTP/1.1"))
        wait_until(lambda: server.connections() == 1)
        wait_until(lambda: server.connections() == 0, seconds=1)
        assert b"HTTP/1.1 408" not in read_to_end(client)


@pytest.mark.fault(26)
def test_silent_connections_give_way_to_new_ones() -> None:
    """A client that opens all connections and sends nothing, or half a request, must not lock out others. A connection
    that waits for its response is kept.
    """
    with serve_app(RecordingApp(), ServerLimits(connections=3)) as server:
        idle, half, waiting = server.connect(), server.connect(), server.connect()
        send_bytes(idle, GET)
        assert read_reply(idle).body == b"ok"
        send_bytes(half, GET[:20])
        send_bytes(waiting, post(b"Content-Length: 2") + b"a")
        wait_until(lambda: server.connections() == 3)
        time.sleep(1.05 * protocol_module.SILENT_SECONDS)
        new = [server.connect(), server.connect()]
        for client in new:
            send_bytes(client, GET)
            assert read_reply(client).body == b"ok"
        assert select.select([waiting], [], [], 0)[0] == []
        assert read_to_end(idle) == read_to_end(half) == b""
        assert server.refused == []
        for client in (idle, half, waiting, *new):
            client.close()


@pytest.mark.fault(28)
def test_a_client_that_reads_nothing_is_disconnected() -> None:
    """Row 28: otherwise the stream holds its slot forever, and its output fills the memory."""
    app = RecordingApp()
    with serve_app(app, ServerLimits(write_seconds=0.4)) as server, server.connect(receive_buffer=2048) as client:
        began = time.monotonic()
        send_bytes(client, head(first=b"GET /endless HTTP/1.1"))
        assert app.disconnected.wait(3)
        assert 0.4 <= time.monotonic() - began < 2
        assert app.sent < 500_000  # the two kernel buffers and a message
        assert server.request_once(GET).body == b"ok"


@pytest.mark.fault(28)
@pytest.mark.parametrize("path", [b"/endless", b"/large?4000000"], ids=["many writes", "one write"])
def test_a_client_that_reads_slowly_is_served(path: bytes) -> None:
    """The deadline counts only time without any read."""
    app = RecordingApp()
    with serve_app(app, ServerLimits(write_seconds=0.3)) as server, server.connect(receive_buffer=16_384) as client:
        send_bytes(client, head(b"Connection: close", first=b"GET " + path + b" HTTP/1.1"))
        size, end = 0, time.monotonic() + 1.2
        while time.monotonic() < end:
            size += len(client.recv(16_384))
            time.sleep(0.01)
        assert size < 3_000_000
        if path == b"/endless":
            assert not app.disconnected.is_set()
        else:
            assert size + len(read_to_end(client)) > 4_000_000


def test_unread_bytes_of_a_finished_response_are_dropped() -> None:
    """The app is done and the connection closing, but its last bytes are still buffered."""
    with serve_app(RecordingApp(), ServerLimits(write_seconds=0.3)) as server:
        clients = [server.connect(receive_buffer=2048) for _ in range(12)]
        for number, client in enumerate(clients):
            path = b"/large?%d" % (30_000 * number)
            send_bytes(client, head(b"Connection: close", first=b"GET " + path + b" HTTP/1.1"))
        wait_until(lambda: 0 < server.connections() < 12)  # the shortest fit into the kernel's buffers
        wait_until(lambda: server.connections() == 0, seconds=2)
        for client in clients:
            client.close()
