"""The HTTP protocol class: heads, framing, pipelining, connection limit. Row 25 of the fault table."""

from __future__ import annotations

import gc
import logging
import random
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.runtime.server.middleware.raw_server import (
    GET,
    MARK,
    RawServer,
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

pytestmark = pytest.mark.usefixtures("no_warnings")


@pytest.fixture(scope="module")
def app() -> RecordingApp:
    return RecordingApp()


@pytest.fixture(scope="module")
def default_server(app: RecordingApp) -> Iterator[RawServer]:
    """A server with the default limits."""
    with serve_app(app) as running:
        yield running


LARGE = {
    "a header of 300 KB": (head(b"x: " + MARK * 60_000), 431),
    "5000 headers": (head(*[b"zebra: %d" % number for number in range(5000)]), 431),
    "101 headers": (head(*[b"zebra: %d" % number for number in range(100)]), 431),
    "a head slightly too large, in one read": (head(*[b"x: " + MARK * 1400] * 5), 431),
    "a target of 100 KB": (head(first=b"GET /" + MARK * 20_000 + b" HTTP/1.1"), 414),
    "a target of 5 KB": (head(first=b"GET /" + MARK * 1000 + b" HTTP/1.1"), 414),
}


@pytest.mark.fault(25)
@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("piece", [1_000_000, 1400], ids=["at once", "in pieces"])
def test_a_large_head_is_refused_at_once_and_in_pieces(
    default_server: RawServer, app: RecordingApp, name: str, piece: int
) -> None:
    """Alone, h11 accepted 300 KB of headers in one read, 5000 headers, and a target of any length."""
    request, status = LARGE[name]
    calls = len(app.calls)
    with default_server.connect() as client:
        for start in range(0, len(request), piece):
            send_bytes(client, request[start : start + piece])
        answer = read_reply(client)
        assert read_to_end(client) == b""
    assert (answer.status, answer.code) == (status, {431: "headers_too_large", 414: "target_too_long"}[status])
    assert answer.headers["connection"] == "close"
    assert MARK not in answer.body
    assert len(app.calls) == calls


def test_a_head_within_the_limits_is_served(default_server: RawServer) -> None:
    request = head(
        *[b"x-%d: " % number + MARK * 58 for number in range(99)], first=b"GET /" + MARK * 400 + b" HTTP/1.1"
    )
    assert 30_000 < len(request) < 32_768
    assert default_server.request_once(request).status == 200


MALFORMED = {
    "no Host": b"GET /zebra HTTP/1.1\r\n\r\n",
    "two Hosts": head(b"Host: zebra"),
    "Content-Length and Transfer-Encoding": post(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "two Content-Lengths that agree": post(b"Content-Length: 5", b"Content-Length: 5") + MARK,
    "two Content-Lengths that differ": post(b"Content-Length: 5", b"Content-Length: 6") + MARK,
    "two Content-Lengths in one": post(b"Content-Length: 5, 5") + MARK,
    "a negative Content-Length": post(b"Content-Length: -5") + MARK,
    "a Content-Length of 30 digits": post(b"Content-Length: " + b"9" * 30) + MARK,
    "a Content-Length that is not a number": post(b"Content-Length: zebra") + MARK,
    "another Transfer-Encoding": post(b"Transfer-Encoding: zebra"),
    "chunks in HTTP/1.0": head(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0") + b"0\r\n\r\n",
    "a folded header": head(b"x: 1", b" Content-Length: 5"),
    "a space before the colon": head(b"x-zebra : 1"),
    "a NUL in a header": head(b"x: zebra\x00"),
    "CONNECT": head(first=b"CONNECT zebra:443 HTTP/1.1"),
    "a whole URL as target": head(first=b"GET http://zebra/ HTTP/1.1"),
    "not HTTP": b"zebra\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00zebra",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a chunk without a size": post(b"Transfer-Encoding: chunked") + b"zebra\r\n",
    "20,000 chunks of a byte": post(b"Transfer-Encoding: chunked") + b"1\r\nz\r\n" * 20_000,
    "an endless chunk size": post(b"Transfer-Encoding: chunked") + b"5;" + MARK * 8000,
}


@pytest.mark.fault(25)
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_gets_400_and_a_closed_connection(default_server: RawServer, name: str) -> None:
    """Request smuggling: h11 prefers Transfer-Encoding and merges equal lengths; a proxy may decide otherwise."""
    with default_server.connect() as client:
        send_bytes(client, MALFORMED[name])
        answer = read_reply(client)
        assert read_to_end(client) == b""
    assert (answer.status, answer.code) == (400, "malformed_request")
    assert answer.headers["connection"] == "close"
    assert MARK not in answer.body
    assert default_server.request_once(GET).status == 200


REFUSED = {name: (request, 400, "malformed_request") for name, request in MALFORMED.items()}
REFUSED["headers that are too large"] = (*LARGE["5000 headers"], "headers_too_large")
REFUSED["a target that is too long"] = (*LARGE["a target of 5 KB"], "target_too_long")


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_before_the_application_is_a_log_line(
    default_server: RawServer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Nothing told why a client got a 431: only the application wrote log lines."""
    request, status, code = REFUSED[name]
    with caplog.at_level(logging.INFO, "vlrun.server"):
        assert default_server.request_once(request).status == status
    assert caplog.messages == [f"refused status={status} code={code} client=127.0.0.1"]


def test_a_request_that_does_not_arrive_is_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "vlrun.server"),
        serve_app(RecordingApp(), ServerLimits(header_seconds=0.1)) as server,
    ):
        assert server.request_once(GET[:-1]).status == 408
    assert caplog.messages == ["refused status=408 code=request_timeout client=127.0.0.1"]


def test_an_upgrade_request_is_served_as_plain_http(default_server: RawServer) -> None:
    """Uvicorn would start a websocket library or log a warning."""
    lines = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Version: 13")
    assert default_server.request_once(head(*lines)).body == b"ok"


def test_an_error_of_the_app_is_not_logged_here(default_server: RawServer) -> None:
    """Uvicorn would log the traceback, which may quote the input."""
    with default_server.connect() as client:
        send_bytes(client, head(first=b"GET /fail HTTP/1.1"))
        assert not read_to_end(client).endswith(b"0\r\n\r\n")


def test_bytes_received_during_a_response_close_the_connection() -> None:
    """They are dropped, and the rest of that request would be parsed as a new one."""
    app = RecordingApp()
    with serve_app(app) as server, server.connect() as client:
        send_bytes(client, head(first=b"GET /slow HTTP/1.1"))
        wait_until(lambda: bool(app.calls))
        send_bytes(client, GET[:10])
        assert read_reply(client).body == b"ok"
        assert read_to_end(client) == b""


def test_pipelined_bytes_do_not_hide_a_disconnect() -> None:
    """Uvicorn stops reading when the next request arrives early, and misses the end of the connection."""
    app = RecordingApp()
    with serve_app(app) as server:
        with server.connect() as client:
            send_bytes(client, post())
            wait_until(lambda: bool(app.calls))
            for _ in range(3):
                time.sleep(0.02)
                send_bytes(client, GET)
        assert app.disconnected.wait(1)


def test_pipelined_requests_in_one_read_are_answered(default_server: RawServer) -> None:
    with default_server.connect() as client:
        send_bytes(client, GET + head(b"Connection: close"))
        assert read_to_end(client).count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("path", [b"/begin", b"/wait"])
def test_an_invalid_chunk_ends_the_running_request(path: bytes) -> None:
    """Uvicorn sent its 400 into a response that had begun, which failed with a traceback."""
    app = RecordingApp()
    with serve_app(app) as server, server.connect() as client:
        send_bytes(client, head(b"Transfer-Encoding: chunked", first=b"POST " + path + b" HTTP/1.1"))
        wait_until(lambda: bool(app.calls))
        if path == b"/begin":
            assert b"begun" in client.recv(65536)
        send_bytes(client, MARK + b"\r\n")
        end = read_to_end(client)
        assert (b"400" in end) == (path == b"/wait")
        assert app.disconnected.wait(1)


def test_random_bytes_do_no_harm() -> None:
    """Random bytes, and requests with a few bytes changed; nothing is logged."""
    chance = random.Random(5)
    whole = (
        post(b"Content-Length: 5", b"Connection: close") + MARK + post(b"Transfer-Encoding: chunked") + b"5\r\nzebra"
    )
    with serve_app(RecordingApp(), ServerLimits(header_seconds=0.3, body_seconds=0.1)) as server:
        for attempt in range(300):
            noise = bytearray(whole if attempt % 3 else chance.randbytes(200))
            for _ in range(chance.randrange(4)):
                noise[chance.randrange(len(noise))] = chance.choice(b"\r\n\x00 :,;/%zZ0\xff")
            with server.connect() as client:
                send_bytes(client, bytes(noise[: chance.randrange(1, len(noise))]))
                with suppress(OSError):
                    client.shutdown(socket.SHUT_WR)
                read_to_end(client)
        assert server.request_once(GET).body == b"ok"
        wait_until(lambda: server.connections() == 0)


def test_a_closed_connection_is_freed(default_server: RawServer) -> None:
    """Its timers kept it in memory for another half minute, with all received data."""
    with default_server.connect():
        wait_until(lambda: default_server.connections() == 1)
        connection = weakref.ref(next(iter(default_server.server.server_state.connections)))
    wait_until(lambda: default_server.connections() == 0)
    wait_until(lambda: gc.collect() >= 0 and connection() is None, seconds=1)


def test_connections_over_the_limit_get_503() -> None:
    with serve_app(RecordingApp(), ServerLimits(connections=3)) as server:
        kept = [server.connect() for _ in range(3)]
        wait_until(lambda: server.connections() == 3)
        for _ in range(3):
            with server.connect() as client:
                answer = read_reply(client)
                assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "busy", "1")
                assert read_to_end(client) == b""
        for client in kept:
            send_bytes(client, GET)
            assert read_reply(client).body == b"ok"
            client.close()
        wait_until(lambda: server.connections() == 0)
        assert server.request_once(GET).body == b"ok"
        assert server.refused == [503] * 3
