"""Rows 4, 22, 23, 25, 26, 28 and 35 of the fault table on the real service: connections, heads, bodies.

The tests in middleware/ have more malformed input, and the same limits with small numbers.
"""

from __future__ import annotations

import gzip
import json
import socket
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.runtime.server.error_checks import assert_error, memory_growth_below, process_memory, still_answers
from tests.runtime.server.http_client import (
    chat_request,
    connect,
    get,
    is_idle,
    metric,
    post,
    shelf_request,
    wait_until,
)
from tests.runtime.server.middleware.raw_server import RawReply, read_reply, read_to_end, send_bytes
from tests.runtime.server.running_server import Server

MIB = 2**20
POSTS = ("/v1/chat/completions", "/v1/responses", "/v1/tokenize", "/api/v1/chat", "/api/v1/analyze")
GETS = ("/v1/models", "/v1/models/vlrun-tiny", "/health/ready", "/metrics", "/openapi.json", "/docs", "/nowhere", "/")


@pytest.fixture(autouse=True)
def service_survives(server: Server) -> Iterator[None]:
    with still_answers(server):
        yield


def open_socket(server: Server, receive_buffer: int | None = None, source: str = "127.0.0.1") -> socket.socket:
    client = socket.socket()
    client.settimeout(10)
    client.bind((source, 0))
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect(("127.0.0.1", server.port))
    return client


def head(server: Server, *lines: bytes, first: bytes = b"GET /health/live HTTP/1.1", host: bytes = b"") -> bytes:
    own = b"Host: " + (host or b"127.0.0.1:%d" % server.port)
    return b"\r\n".join((first, own, *lines, b"", b""))


def ask(server: Server, request: bytes) -> RawReply:
    with open_socket(server) as client:
        send_bytes(client, request)
        return read_reply(client)


def posting(path: str) -> tuple[bytes, bytes]:
    kind = b"multipart/form-data; boundary=B" if path.startswith("/api") else b"application/json"
    return b"POST %s HTTP/1.1" % path.encode(), b"Content-Type: " + kind


@pytest.mark.fault(4)
@pytest.mark.parametrize("path", POSTS)
def test_a_content_length_over_the_limit_is_refused_unread(server: Server, path: str) -> None:
    """Row 4: 413 before the first byte of the body arrives."""
    first, kind = posting(path)
    with memory_growth_below(server, 5), open_socket(server) as client:
        send_bytes(client, head(server, kind, b"Content-Length: %d" % (64 * MIB), first=first))
        assert_error(read_reply(client), 413, "request_too_large")


@pytest.mark.fault(4)
@pytest.mark.parametrize("path", POSTS)
def test_a_chunked_body_over_the_limit_is_refused_at_the_limit(server: Server, path: str) -> None:
    """Row 4: 200 MB of chunks went into memory. The client gets the response although it is still sending."""
    first, kind = posting(path)
    with memory_growth_below(server, 45), open_socket(server) as client:
        send_bytes(client, head(server, kind, b"Transfer-Encoding: chunked", first=first))
        for _ in range(40):
            send_bytes(client, b"100000\r\n" + b" " * MIB + b"\r\n")
        assert_error(read_reply(client), 413, "request_too_large")
    wait_until(lambda: metric(server, "vlrun_body_bytes") == 0)


@pytest.mark.fault(4)
def test_a_body_at_the_limit_is_read(server: Server) -> None:
    """Row 4."""
    body = json.dumps(shelf_request()).encode()
    assert post(server, body + b" " * (15 * MIB - len(body))).text == "6"


FOREIGN_HOSTS = ("evil.example", "evil.example:{port}", "169.254.169.254", "127.0.0.1:1", "127.0.0.1.evil.example")
MALFORMED_HOSTS = (
    "127.0.0.1:{port}/x",
    "user@127.0.0.1:{port}",
    "127.0.0.1:{port}, x",
    "[::1",
    "a b",
    "127.0.0.1:99999",
)


@pytest.mark.fault(22)
@pytest.mark.parametrize("host", [*FOREIGN_HOSTS, *MALFORMED_HOSTS])
def test_a_foreign_host_is_refused_before_routing(server: Server, host: str) -> None:
    """Row 22, CVE-2024-28224 (DNS rebinding), CVE-2026-48710: for any path and method."""
    name = host.format(port=server.port).encode()
    for first in (b"GET /health/live", b"GET /nowhere", b"DELETE /v1/chat/completions", b"POST /v1/chat/completions"):
        answer = ask(server, head(server, first=first + b" HTTP/1.1", host=name))
        code = json.loads(answer.body)["error"]["code"]
        assert (answer.status, code) in ((403, "host_not_allowed"), (400, "invalid_host"))
        assert_error(answer, answer.status, code)


@pytest.mark.fault(22)
def test_no_host_and_two_hosts_are_refused(server: Server) -> None:
    """Row 22."""
    own = b"Host: 127.0.0.1:%d" % server.port
    assert_error(ask(server, b"GET /health/live HTTP/1.1\r\n\r\n"), 400, "malformed_request")
    assert_error(ask(server, b"GET /health/live HTTP/1.0\r\n\r\n"), 400, "invalid_host")
    assert_error(
        ask(server, b"\r\n".join((b"GET /health/live HTTP/1.1", own, own, b"", b""))), 400, "malformed_request"
    )


@pytest.mark.fault(23)
@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost.evil.example", "null", "", "file://"])
def test_a_foreign_origin_is_refused(server: Server, origin: str) -> None:
    """Row 23: a page in a browser of the same machine. It may not even read a GET."""
    for response in (
        post(server, shelf_request(), headers={"Origin": origin}),
        get(server, "/v1/models", {"Origin": origin}),
    ):
        assert_error(response, 403, "origin_not_allowed")
        assert "access-control-allow-origin" not in response.headers


NO_PREFLIGHT_TYPES = (
    "text/plain",
    "application/x-www-form-urlencoded",
    "text/plain; application/json",
    "",
    "application/json5",
)


@pytest.mark.fault(23)
@pytest.mark.parametrize("kind", NO_PREFLIGHT_TYPES)
def test_content_types_without_preflight_are_refused(server: Server, kind: str) -> None:
    """Row 23: a page could post JSON as plain text without a CORS preflight."""
    for path in POSTS:
        assert_error(post(server, shelf_request(), path, {"Content-Type": kind}), 415, "invalid_type")


@pytest.mark.parametrize("path", [path for path in POSTS if path.startswith("/v1")])
def test_json_endpoints_refuse_forms(server: Server, path: str) -> None:
    """Row 23: only the form endpoints take multipart, which needs no preflight."""
    assert_error(
        post(server, shelf_request(), path, {"Content-Type": "multipart/form-data; boundary=B"}), 415, "invalid_type"
    )


@pytest.mark.fault(4)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/tokenize"])
def test_a_compressed_body_is_read(server: Server, path: str) -> None:
    """Row 4. Some clients compress large bodies without asking."""
    request = shelf_request()
    body = json.dumps(request if "chat" in path else {"messages": request["messages"]}).encode()
    for encoding, compressed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        reply = post(server, compressed, path, {"Content-Encoding": encoding})
        assert reply.status == 200, reply.body
    refused = post(server, body, path, {"Content-Encoding": "br"})
    assert_error(refused, 415, "unsupported_encoding")
    assert refused.headers["accept-encoding"] == "gzip, deflate, identity"


@pytest.mark.fault(4)
def test_a_compressed_bomb_is_refused_at_the_limit(server: Server) -> None:
    """Row 4. A megabyte of zeros would become a gigabyte."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    bomb = b"".join(packer.compress(bytes(MIB)) for _ in range(256)) + packer.flush()
    with memory_growth_below(server, 45):
        assert_error(post(server, bomb, headers={"Content-Encoding": "gzip"}), 413, "request_too_large")
    wait_until(lambda: metric(server, "vlrun_body_bytes") == 0)


LARGE_HEADS = {
    "300 KB in a header": (431, "headers_too_large", [b"x: " + b"y" * 300_000], b""),
    "5000 headers": (431, "headers_too_large", [b"x-%d: y" % number for number in range(5000)], b""),
    "101 headers": (431, "headers_too_large", [b"x-%d: y" % number for number in range(100)], b""),
    "a target of 100 KB": (414, "target_too_long", [], b"GET /" + b"x" * 100_000 + b" HTTP/1.1"),
    "a length and chunks": (400, "malformed_request", [b"Content-Length: 5", b"Transfer-Encoding: chunked"], b""),
    "two lengths": (400, "malformed_request", [b"Content-Length: 5", b"Content-Length: 6"], b""),
    "two equal lengths": (400, "malformed_request", [b"Content-Length: 5", b"Content-Length: 5"], b""),
    "a negative length": (400, "malformed_request", [b"Content-Length: -1"], b""),
    "colours in the target": (400, "malformed_request", [], b"GET /\x1b[31m HTTP/1.1"),
    "a whole URL": (400, "malformed_request", [], b"GET http://169.254.169.254/ HTTP/1.1"),
    "a proxy's request": (400, "malformed_request", [], b"CONNECT evil.example:443 HTTP/1.1"),
    "not HTTP": (400, "malformed_request", [], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
}


@pytest.mark.fault(25)
@pytest.mark.parametrize("name", LARGE_HEADS)
def test_a_malformed_or_too_large_head_is_refused(server: Server, name: str) -> None:
    """Row 25, CVE-2025-48956 (one huge header): h11 alone accepts 300 KB in one read, and 5000 headers."""
    status, code, lines, first = LARGE_HEADS[name]
    request = head(server, *lines, first=first or b"POST /v1/chat/completions HTTP/1.1")
    with memory_growth_below(server, 5), open_socket(server) as client:
        send_bytes(client, request)
        assert_error(read_reply(client), status, code)
        assert read_to_end(client) == b""


def check_answers_for(server: Server, seconds: float) -> None:
    """For so many seconds, check that another client gets correct answers quickly."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        assert post(server, shelf_request()).text == "6"
        assert time.monotonic() - began < 5
        time.sleep(0.5)


def read_until_closed(client: socket.socket, began: float) -> tuple[float, bytes]:
    """Read until the server closes; return the seconds since ``began`` and the bytes."""
    client.settimeout(60)
    received = read_to_end(client)
    return time.monotonic() - began, received


@pytest.mark.fault(26, 28)
@pytest.mark.slow
def test_slow_clients_are_closed_and_others_are_served(server: Server) -> None:
    """Rows 26 and 28 with the real limits, all at once: 10 slow heads, 10 slow bodies, 180 idle connections, and a
    stream that its client does not read.
    """
    first, kind = posting("/v1/chat/completions")
    with ExitStack() as stack, ThreadPoolExecutor(64) as pool:

        def open_sockets(count: int, first: int) -> list[socket.socket]:
            """Open connections from several addresses, because one may have 64."""
            addresses = [f"127.0.0.{first + n // 45}" for n in range(count)]
            return [stack.enter_context(open_socket(server, source=address)) for address in addresses]

        idles, non_reader = open_sockets(180, 2), stack.enter_context(open_socket(server, receive_buffer=2048))
        for client in idles[:90]:  # the other half sends nothing
            send_bytes(client, head(server))
            assert read_reply(client).status == 200
        began = time.monotonic()
        heads, bodies = open_sockets(10, 8), open_sockets(10, 9)
        for client in heads:
            send_bytes(client, head(server)[:-4])
        for client in bodies:
            send_bytes(client, head(server, kind, b"Content-Length: 1000", first=first) + b"{")
        content = json.dumps(chat_request("Numbers", stream=True, **LONG_STREAM)).encode()
        send_bytes(non_reader, head(server, kind, b"Content-Length: %d" % len(content), first=first) + content)
        wait_until(lambda: metric(server, "vlrun_engine_running") == 1)
        waiting = [pool.submit(read_until_closed, client, began) for client in (*heads, *bodies)]
        served = pool.submit(check_answers_for, server, 30)
        late = [future.result() for future in waiting]
        for seconds, received in late[:10]:
            assert 9 < seconds < 15
            assert b" 408 " in received
        for seconds, received in late[10:]:
            assert 29 < seconds < 36
            assert b" 408 " in received
        served.result()
        for client in idles:
            assert read_until_closed(client, began)[1] == b""
        assert time.monotonic() - began < 45
        wait_until(lambda: is_idle(server), 20)
        streamed = read_to_end(non_reader)
        assert b" 200 " in streamed
        assert b"[DONE]" not in streamed
        assert len(streamed) < MIB


LONG_STREAM = {
    "temperature": 2,
    "max_tokens": 3900,
    "logprobs": True,
    "top_logprobs": 20,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "array", "items": {"type": "integer"}, "minItems": 1000}},
    },
}
"""Kilobytes per token, so that a client that reads nothing blocks the stream within 200 tokens."""


@pytest.mark.fault(35)
def test_repeated_errors_do_not_leak(server: Server) -> None:
    """Row 35: an error object raised again keeps the frames of each time, 4.6 KB per 404."""
    connection = connect(server)

    def send_404s(count: int) -> None:
        for _ in range(count):
            connection.request("GET", "/nowhere")
            assert connection.getresponse().read()

    send_404s(500)
    before = process_memory(server)
    send_404s(1500)
    assert process_memory(server) - before < 4
    connection.close()
