"""Who may ask, on real sockets: Host, Origin, key, content type; and what escapes the app. Rows 22, 23 and 24."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.runtime.server.middleware.raw_server import (
    LIMITS,
    RawReply,
    RawServer,
    StubApp,
    read_reply,
    read_to_end,
    send_bytes,
    serve_app,
    wait_until,
)
from vlrun.server.middleware.api_keys import ApiKeys
from vlrun.server.middleware.security import SecurityMiddleware, allowed_hosts

KEY, OTHER_KEY = "sk-kiosk-0123456789", "sk-other-0123456789"
PAGE = "https://kiosk.example"
JSON = "Content-Type: application/json"
NO_NAMES: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def app() -> StubApp:
    return StubApp()


@pytest.fixture(scope="module")
def plain(app: StubApp) -> Iterator[RawServer]:
    """No key, no names, no pages: as it is without options."""
    with serve_app(SecurityMiddleware(app, NO_NAMES, NO_NAMES, None, lambda: app.stopping)) as server:
        yield server


@pytest.fixture(scope="module")
def keyed(app: StubApp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawServer]:
    """Two keys, two names, one page that may ask."""
    file = tmp_path_factory.mktemp("keys") / "api-key"
    file.touch(mode=0o600)
    file.write_text(f"kiosk: {KEY}\n{OTHER_KEY}\n")
    hosts = frozenset({"vlm.example", "Proxy.example:443"})
    with serve_app(
        SecurityMiddleware(app, hosts, frozenset({PAGE}), ApiKeys.read(file), lambda: app.stopping)
    ) as server:
        yield server


def ask(
    server: RawServer, *headers: str, path: str = "/", method: str = "GET", host: str | None = "127.0.0.1:%d"
) -> RawReply:
    """A request; ``%d`` in ``host`` and ``headers`` is the port."""
    lines = [f"{method} {path} HTTP/1.1", *([] if host is None else [f"Host: {host}"]), *headers]
    text = "".join(f"{line}\r\n" for line in lines).replace("%d", str(server.port))
    body = b"Content-Length: 2\r\n\r\n{}" if method == "POST" else b"\r\n"
    with server.connect() as client:
        send_bytes(client, text.encode("latin-1") + body)
        return read_reply(client, method)


@pytest.mark.parametrize("host", ["127.0.0.1:%d", "localhost:%d", "LocalHost:%d"])
def test_its_own_address_is_a_host(plain: RawServer, host: str) -> None:
    assert ask(plain, host=host).status == 200


FOREIGN_HOSTS = """evil.example evil.example:%d evil 127.0.0.1 localhost 127.0.0.1:80 127.0.0.2:%d vlm.example:%d [::1]:%d
    127.0.0.1.evil.example:%d localhost.evil.example:%d 0.0.0.0:%d 2130706433:%d""".split()


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_foreign_host_is_refused_before_routing(plain: RawServer, app: StubApp, host: str) -> None:
    """DNS rebinding: a page's own name is made to lead here, and its browser sends that name."""
    calls = len(app.calls)
    answer = ask(plain, host=host, path="/health/live")
    assert (answer.status, answer.code) == (403, "host_not_allowed")
    assert len(app.calls) == calls


MALFORMED_HOSTS = """a@127.0.0.1:%d 127.0.0.1:%d/ 127.0.0.1:%d/x?y 127.0.0.1:%d# localhost.:%d 127.0.0.1: 127.0.0.1:x
    127.0.0.1:%d:%d lÖcalhost:%d [::1:%d ::1 %6cocalhost 127.0.0.1:999999 http://127.0.0.1:%d . -: * 127.0.0.1\\:%d
    """.split()
MALFORMED_HOSTS += ["", "127.0.0.1 :%d", "127.0.0.1:%d, x", "localhost:%d\tx"]


@pytest.mark.parametrize("host", MALFORMED_HOSTS)
def test_a_crooked_host_is_refused(plain: RawServer, app: StubApp, host: str) -> None:
    """A Host that two parsers read differently went around the check (CVE-2026-48710)."""
    calls = len(app.calls)
    answer = ask(plain, host=host)
    assert (answer.status, answer.code) == (400, "invalid_host")
    assert len(app.calls) == calls


def test_no_host_and_two_hosts(plain: RawServer) -> None:
    with plain.connect() as client:
        send_bytes(client, b"GET / HTTP/1.0\r\n\r\n")  # HTTP/1.1 without one does not get as far as the guard
        assert read_reply(client).code == "invalid_host"
    assert ask(plain, "Host: 127.0.0.1:%d").status == 400


NAMES = [("vlm.example:%d", 200), ("VLM.example:%d", 200), ("proxy.example:443", 200), ("proxy.example", 200)]
NAMES += [("vlm.example", 403), ("proxy.example:%d", 403), ("vlm.example:81", 403), ("x.vlm.example:%d", 403)]


@pytest.mark.parametrize(("host", "status"), NAMES)
def test_names_that_were_allowed(keyed: RawServer, host: str, status: int) -> None:
    """A name counts with the service's port; one that was given with a port, with that."""
    assert ask(keyed, f"Authorization: Bearer {KEY}", host=host).status == status


@pytest.mark.parametrize(
    ("server", "hosts", "allowed"),
    [
        (("192.0.2.7", 80), set(), {"192.0.2.7:80", "192.0.2.7"}),
        (("192.0.2.7", 8321), {"a", "b:80"}, {"192.0.2.7:8321", "a:8321", "b:80", "b"}),
        (("::1", 8321), set(), {"[::1]:8321", "localhost:8321"}),
        (("::ffff:127.0.0.1", 8321), set(), {"127.0.0.1:8321", "localhost:8321"}),
        (("fe80::1%eth0", 8321), {"[fe80::2]"}, {"[fe80::1]:8321", "[fe80::2]:8321"}),
        (("/run/vlrun.sock", None), {"Vlm.example"}, {"localhost", "vlm.example"}),
        (("testserver", 80), set(), set()),
        (None, {"a"}, {"a", "localhost"}),
    ],
)
def test_hosts_by_where_the_client_connected(
    server: tuple[str, int | None] | None, hosts: set[str], allowed: set[str]
) -> None:
    assert allowed_hosts(server, frozenset(hosts)) == allowed


@pytest.mark.parametrize("origin", ["http://127.0.0.1:%d", "http://localhost:%d"])
def test_its_own_page_may_ask(plain: RawServer, origin: str) -> None:
    answer = ask(plain, f"Origin: {origin}", JSON, method="POST")
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


ORIGINS = """https://evil.example null https://127.0.0.1:%d http://127.0.0.1:%d/ http://localhost HTTP://127.0.0.1:%d
    http://localhost:81""".split()


@pytest.mark.parametrize("origins", [*[[origin] for origin in (*ORIGINS, PAGE, "")], ["http://127.0.0.1:%d"] * 2])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_foreign_page_may_not(plain: RawServer, app: StubApp, origins: list[str], method: str) -> None:
    """A page in the browser of this machine reaches loopback too."""
    calls = len(app.calls)
    headers = [f"Origin: {origin}" for origin in origins]
    answer = ask(plain, *headers, JSON, "Access-Control-Request-Method: POST", method=method)
    assert (answer.status, answer.code) == (403, "origin_not_allowed")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert len(app.calls) == calls


FETCHES = [("cross-site", "no-cors", 403), ("cross-site", "navigate", 200), ("same-origin", "cors", 200)]


@pytest.mark.parametrize(("site", "mode", "status"), FETCHES)
def test_a_foreign_page_may_link_here_but_embed_nothing(plain: RawServer, site: str, mode: str, status: int) -> None:
    """Images and scripts are asked for without an Origin, and tell by loading that the service is there."""
    assert ask(plain, f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}").status == status


def test_a_page_that_may_ask_gets_its_preflight_without_a_key(keyed: RawServer, app: StubApp) -> None:
    calls = len(app.calls)
    answer = ask(keyed, f"Origin: {PAGE}", "Access-Control-Request-Method: POST", method="OPTIONS", path="/v1/models")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-methods"] == "GET, POST"
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
    assert answer.headers["access-control-max-age"] == "600"
    assert answer.headers["vary"] == "Origin"
    assert len(app.calls) == calls


def test_the_service_asks_itself_without_a_preflight(keyed: RawServer) -> None:
    answer = ask(keyed, "Origin: http://127.0.0.1:%d", "Access-Control-Request-Method: POST", method="OPTIONS")
    assert (answer.status, answer.code) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("path", "key", "status"), [("/", KEY, 200), ("/", "", 401), ("/zebra", KEY, 500), ("/broken", KEY, 200)]
)
def test_a_page_that_may_ask_can_read_answers_errors_and_streams(
    keyed: RawServer, path: str, key: str, status: int
) -> None:
    with keyed.connect() as client:
        lines = [f"GET {path} HTTP/1.1", f"Host: localhost:{keyed.port}", f"Origin: {PAGE}", "Authorization: Bearer"]
        send_bytes(client, "\r\n".join(lines).encode() + f" {key}\r\n\r\n".encode())
        start = client.recv(65536).lower()
    assert b" %d " % status in start.partition(b"\r\n")[0]
    assert f"access-control-allow-origin: {PAGE}\r\n".encode() in start
    assert b"vary: origin\r\n" in start
    assert b"cross-origin-resource-policy" not in start


@pytest.mark.parametrize(
    "other", ["https://evil.example", "https://kiosk.example.evil.example", "https://kiosk.example:444", "null"]
)
def test_no_other_page_may(keyed: RawServer, origin: str) -> None:
    answer = ask(keyed, f"Origin: {origin}", f"Authorization: Bearer {KEY}")
    assert (answer.status, "access-control-allow-origin" in answer.headers) == (403, False)


WRONG_CREDENTIALS = [
    f"Bearer {key}" for key in ("", f"{KEY}x", KEY[:-1], KEY.upper(), f"{KEY} {KEY}", "kiosk", "ÿ" * 16)
]
WRONG_CREDENTIALS += ["Bearer", KEY, f"Basic {KEY}"]


@pytest.mark.parametrize("presented", [[], *[[line] for line in WRONG_CREDENTIALS], [f"Bearer {KEY}"] * 2])
def test_without_its_key_nobody_gets_in(keyed: RawServer, app: StubApp, presented: list[str]) -> None:
    calls = len(app.calls)
    answer = ask(keyed, *[f"Authorization: {line}" for line in presented], f"x-api-key: {KEY}", path=f"/?key={KEY}")
    assert (answer.status, answer.code, answer.headers["www-authenticate"]) == (401, "invalid_api_key", "Bearer")
    assert len(app.calls) == calls


PATHS = """/ /v1/models /v1/chat/completions /health/ready /metrics /docs /openapi.json /health /health/live/
    //health/live /health/live/../../metrics /metrics?/health/live /health/Live /nothing""".split()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
def test_every_path_but_one_needs_a_key(keyed: RawServer, path: str, method: str) -> None:
    assert ask(keyed, JSON, path=path, method=method).status == 401


def test_the_one_path(keyed: RawServer) -> None:
    assert ask(keyed, path="/health/live").body == b"-"
    assert ask(keyed, path="/health%2Flive").body == b"-"  # which the router takes for the same


@pytest.mark.parametrize(("line", "name"), [(f"Bearer {KEY}", b"kiosk"), (f"bearer  {OTHER_KEY}", b"key-2")])
def test_a_key_tells_its_name(keyed: RawServer, line: str, name: bytes) -> None:
    assert ask(keyed, f"Authorization: {line}").body == name


GOOD_TYPES = ["application/json", "Application/JSON; Charset=UTF-8", 'application/json;charset="utf-8"']
GOOD_TYPES += ["multipart/form-data; boundary=x"]
BAD_TYPES = ["", "text/plain", "application/jsonx", "application/x-www-form-urlencoded", "text/plain, application/json"]
BAD_TYPES += ["text/plain;application/json", "application/json, text/plain", "application/json; charset=utf-16"]


@pytest.mark.parametrize("kind", GOOD_TYPES)
def test_content_types_that_are_read(plain: RawServer, kind: str) -> None:
    assert ask(plain, f"Content-Type: {kind}", method="POST").status == 200


@pytest.mark.parametrize("kinds", [*[[kind] for kind in BAD_TYPES], [], ["application/json", "text/plain"]])
def test_content_types_that_are_not(plain: RawServer, app: StubApp, kinds: list[str]) -> None:
    """A foreign page can post text/plain without asking first."""
    calls = len(app.calls)
    answer = ask(plain, *[f"Content-Type: {kind}" for kind in kinds], method="POST")
    assert (answer.status, answer.code) == (415, "invalid_type")
    assert len(app.calls) == calls


def test_what_a_refused_client_still_sends_does_not_cost_it_the_answer(plain: RawServer) -> None:
    """Closed with bytes unread a connection is reset, and many systems then throw away the answer that came before."""
    size = 8_000_000
    with plain.connect() as client:
        lines = f"POST / HTTP/1.1\r\nHost: localhost:{plain.port}\r\nContent-Length: {size}\r\n\r\n"
        client.sendall(lines.encode())
        for _ in range(size // 100_000):
            client.sendall(bytes(100_000))
        answer = read_reply(client)
        assert (answer.status, answer.headers["connection"]) == (415, "close")
        assert client.recv(1) == b""  # an end, and no reset


def test_a_body_that_nobody_reads_is_not_taken_for_a_request(plain: RawServer) -> None:
    with plain.connect() as client:
        inner = b"GET /inner HTTP/1.1\r\n\r\n"
        lines = f"POST / HTTP/1.1\r\nHost: localhost:{plain.port}\r\n{JSON}\r\nContent-Length: {len(inner)}\r\n\r\n"
        send_bytes(client, lines.encode() + inner)
        assert read_reply(client).headers["connection"] == "close"
        assert read_to_end(client) == b""


def test_while_it_stops_it_takes_no_work(plain: RawServer, app: StubApp) -> None:
    app.stopping = True
    try:
        answer = ask(plain, JSON, method="POST")
        assert (answer.status, answer.code) == (503, "stopping")
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("5", "close")
        assert ask(plain, path="/health/ready").status == 200
    finally:
        app.stopping = False


def test_headers_that_every_answer_has(plain: RawServer) -> None:
    ours = {
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "x-frame-options": "DENY",
    }
    for answer in (ask(plain), ask(plain, path="/zebra"), ask(plain, method="POST"), ask(plain, host="evil.example")):
        assert {name: answer.headers.get(name) for name in ours} == ours
    docs = ask(plain, path="/docs")
    assert docs.headers["x-frame-options"] == "SAMEORIGIN"
    assert docs.headers["content-security-policy"] == "default-src 'self'"


def test_a_failure_is_one_line_in_the_log_and_nothing_for_the_stranger(
    plain: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Uvicorn writes the traceback, and says ``Internal Server Error`` in plain text."""
    answer = ask(plain, path="/zebra")
    assert (answer.status, answer.code) == (500, "internal_error")
    assert b"zebra" not in answer.body
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.name, record.exc_info) == ("vlrun.server", None)
    assert record.getMessage().startswith("a request failed: ValueError at ")
    assert "raw_server.py:" in record.getMessage()
    assert "zebra" not in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_failure_in_the_middle_ends_the_connection(plain: RawServer, caplog: pytest.LogCaptureFixture) -> None:
    with plain.connect() as client:
        send_bytes(client, f"GET /broken HTTP/1.1\r\nHost: localhost:{plain.port}\r\n\r\n".encode())
        end = read_to_end(client)
    assert end.endswith(b"5\r\nbegun\r\n")  # without the last chunk, so that the client knows
    wait_until(lambda: len(caplog.records) == 1)
    assert "ValueError" in caplog.text
    assert "zebra" not in caplog.text


OUTCOMES = [("/refused", 400, "invalid_value"), ("/stopped", 503, "stopping")]
OUTCOMES += [("/silent", 500, "internal_error")]


@pytest.mark.parametrize(("path", "status", "code"), OUTCOMES)
def test_every_other_end_is_an_answer_too(
    plain: RawServer, caplog: pytest.LogCaptureFixture, path: str, status: int, code: str
) -> None:
    answer = ask(plain, path=path)
    assert (answer.status, answer.code) == (status, code)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_socket_in_the_file_system(app: StubApp, tmp_path: Path) -> None:
    """It has no port, so Host names no port."""
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    with serve_app(
        SecurityMiddleware(app, frozenset({"vlm.example"}), NO_NAMES, None, lambda: False), LIMITS, listener
    ):
        for host, status in (("localhost", 200), ("vlm.example", 200), ("evil.example", 403), ("localhost:80", 403)):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                send_bytes(client, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert read_reply(client).status == status


def test_a_cancelled_task_ends_as_one(app: StubApp) -> None:
    """Whoever stops the server waits for it."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None: ...

    scope = {"type": "http", "method": "GET", "path": "/stopped", "headers": [(b"host", b"localhost")], "state": {}}
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(SecurityMiddleware(app, NO_NAMES, NO_NAMES, None, lambda: False)(scope, receive, send))


def test_whoever_has_left_hears_nothing(app: StubApp) -> None:
    """Guards the log and the counters from a 500 for each client that leaves."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/cancelled", "headers": [(b"host", b"localhost")], "state": {}}
    asyncio.run(SecurityMiddleware(app, NO_NAMES, NO_NAMES, None, lambda: False)(scope, receive, send))
    assert app.calls[-1] == "/cancelled"
    assert sent == []


def test_lifespan_passes_and_websockets_are_closed() -> None:
    scope_types: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope_types.append(scope["type"])

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def both() -> None:
        guard = SecurityMiddleware(app, NO_NAMES, NO_NAMES, None, lambda: False)
        await guard({"type": "lifespan"}, receive, send)
        await guard({"type": "websocket"}, receive, send)

    asyncio.run(both())
    assert (scope_types, [message["type"] for message in sent]) == (["lifespan"], ["websocket.close"])
