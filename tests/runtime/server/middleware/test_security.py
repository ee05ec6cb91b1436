"""The security middleware over real sockets: Host, Origin, key, errors of the app. Rows 22, 23 and 24."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.server.middleware.raw_server import (
    LIMITS,
    RawServer,
    StubApp,
    ask,
    read_reply,
    read_to_end,
    send_bytes,
    serve_app,
    wait_until,
)
from vlrun.server.middleware.api_keys import ApiKeys
from vlrun.server.middleware.security import SecurityMiddleware

KEY, OTHER_KEY = "sk-kiosk-0123456789", "sk-other-0123456789"
ORIGIN = "https://kiosk.example"
JSON = "Content-Type: application/json"
NO_NAMES: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def app() -> StubApp:
    return StubApp()


@pytest.fixture(scope="module")
def plain(app: StubApp) -> Iterator[RawServer]:
    """The defaults: no key, no host names, no origins."""
    with serve_app(SecurityMiddleware(app, NO_NAMES, NO_NAMES, None, lambda: app.stopping)) as server:
        yield server


@pytest.fixture(scope="module")
def keyed(app: StubApp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawServer]:
    """Two keys, two host names, one allowed origin."""
    file = tmp_path_factory.mktemp("keys") / "api-key"
    file.touch(mode=0o600)
    file.write_text(f"kiosk: {KEY}\n{OTHER_KEY}\n")
    hosts = frozenset({"vlm.example", "Proxy.example:443"})
    with serve_app(
        SecurityMiddleware(app, hosts, frozenset({ORIGIN}), ApiKeys.read(file), lambda: app.stopping)
    ) as server:
        yield server


@pytest.mark.parametrize("host", ["127.0.0.1:%d", "localhost:%d", "LocalHost:%d"])
def test_own_addresses_are_allowed_hosts(plain: RawServer, host: str) -> None:
    assert ask(plain, host=host).status == 200


FOREIGN_HOSTS = """evil.example evil.example:%d evil 127.0.0.1 localhost 127.0.0.1:80 127.0.0.2:%d vlm.example:%d
    [::1]:%d 127.0.0.1.evil.example:%d localhost.evil.example:%d 0.0.0.0:%d 2130706433:%d""".split()


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_foreign_host_is_refused_before_routing(plain: RawServer, app: StubApp, host: str) -> None:
    """DNS rebinding: the name of a page resolves to this machine, and the browser sends that name."""
    calls = len(app.calls)
    answer = ask(plain, host=host, path="/health/live")
    assert (answer.status, answer.code) == (403, "host_not_allowed")
    assert len(app.calls) == calls


MALFORMED_HOSTS = """a@127.0.0.1:%d 127.0.0.1:%d/ 127.0.0.1:%d/x?y 127.0.0.1:%d# localhost.:%d 127.0.0.1: 127.0.0.1:x
    127.0.0.1:%d:%d lÖcalhost:%d [::1:%d ::1 %6cocalhost 127.0.0.1:999999 http://127.0.0.1:%d . -: * 127.0.0.1\\:%d
    """.split()
MALFORMED_HOSTS += ["", "127.0.0.1 :%d", "127.0.0.1:%d, x", "localhost:%d\tx"]


@pytest.mark.parametrize("host", MALFORMED_HOSTS)
def test_a_malformed_host_is_refused(plain: RawServer, app: StubApp, host: str) -> None:
    """A Host that two parsers read differently bypassed the check (CVE-2026-48710)."""
    calls = len(app.calls)
    answer = ask(plain, host=host)
    assert (answer.status, answer.code) == (400, "invalid_host")
    assert len(app.calls) == calls


def test_no_host_and_two_hosts_are_refused(plain: RawServer) -> None:
    with plain.connect() as client:
        send_bytes(client, b"GET / HTTP/1.0\r\n\r\n")  # HTTP/1.1 without Host does not reach the middleware
        assert read_reply(client).code == "invalid_host"
    assert ask(plain, "Host: 127.0.0.1:%d").status == 400


NAMES = [("vlm.example:%d", 200), ("VLM.example:%d", 200), ("proxy.example:443", 200), ("proxy.example", 200)]
NAMES += [("vlm.example", 403), ("proxy.example:%d", 403), ("vlm.example:81", 403), ("x.vlm.example:%d", 403)]


@pytest.mark.parametrize(("host", "status"), NAMES)
def test_allowed_host_names(keyed: RawServer, host: str, status: int) -> None:
    """A name without a port is valid with the port of the service, a name with a port only with that."""
    assert ask(keyed, f"Authorization: Bearer {KEY}", host=host).status == status


@pytest.mark.parametrize("origin", ["http://127.0.0.1:%d", "http://localhost:%d"])
def test_the_own_origin_is_allowed(plain: RawServer, origin: str) -> None:
    answer = ask(plain, f"Origin: {origin}", JSON, method="POST")
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


ORIGINS = """https://evil.example null https://127.0.0.1:%d http://127.0.0.1:%d/ http://localhost HTTP://127.0.0.1:%d
    http://localhost:81""".split()


@pytest.mark.parametrize("origins", [*[[origin] for origin in (*ORIGINS, ORIGIN, "")], ["http://127.0.0.1:%d"] * 2])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_foreign_origin_is_refused(plain: RawServer, app: StubApp, origins: list[str], method: str) -> None:
    """A page in a browser on this machine can reach loopback."""
    calls = len(app.calls)
    headers = [f"Origin: {origin}" for origin in origins]
    answer = ask(plain, *headers, JSON, "Access-Control-Request-Method: POST", method=method)
    assert (answer.status, answer.code) == (403, "origin_not_allowed")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert len(app.calls) == calls


FETCHES = [("cross-site", "no-cors", 403), ("cross-site", "navigate", 200), ("same-origin", "cors", 200)]


@pytest.mark.parametrize(("site", "mode", "status"), FETCHES)
def test_a_foreign_page_may_link_but_not_embed(plain: RawServer, site: str, mode: str, status: int) -> None:
    """Images and scripts are requested without Origin, and their loading reveals the service."""
    assert ask(plain, f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}").status == status


def test_an_allowed_origin_gets_its_preflight_without_a_key(keyed: RawServer, app: StubApp) -> None:
    calls = len(app.calls)
    answer = ask(keyed, f"Origin: {ORIGIN}", "Access-Control-Request-Method: POST", method="OPTIONS", path="/v1/models")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "access-control-allow-private-network" not in answer.headers
    assert answer.headers["access-control-max-age"] == "600"
    assert answer.headers["vary"] == "Origin"
    assert len(app.calls) == calls


def test_a_policy_that_names_frame_ancestors_replaces_x_frame_options(plain: RawServer) -> None:
    """That header cannot name origins, and old browsers would obey it."""
    assert "x-frame-options" not in ask(plain, path="/framed").headers
    assert ask(plain, path="/docs").headers["x-frame-options"] == "SAMEORIGIN"
    assert ask(plain, path="/").headers["x-frame-options"] == "DENY"


def test_what_depends_on_the_origin_says_so_besides_its_own(keyed: RawServer) -> None:
    """A cache would give the answer for one origin to another one, without its header."""
    client = keyed.connect()
    head = f"GET /framed HTTP/1.1\r\nHost: vlm.example:{keyed.port}\r\nOrigin: {ORIGIN}\r\nx-api-key: {KEY}\r\n\r\n"
    send_bytes(client, head.encode())
    start = client.recv(4096).lower()
    client.close()
    assert b"vary: accept\r\n" in start
    assert b"vary: origin\r\n" in start


CLIENT_HEADERS = """x-api-key x-title http-referer x-stainless-os x-stainless-retry-count x-stainless-helper-method
    openai-organization openai-project openai-beta anthropic-version anthropic-dangerous-direct-browser-access
    user-agent x-request-id idempotency-key traceparent content-encoding x-some-later-client""".split()


def test_an_allowed_origin_may_send_the_headers_of_any_client(keyed: RawServer) -> None:
    """Browsers refused requests of OpenRouter's and Anthropic's clients, whose headers were not listed."""
    asked = ", ".join(CLIENT_HEADERS).title() + ",,a b,\x85,ü," + "x" * 65
    headers = [f"Origin: {ORIGIN}", "Access-Control-Request-Method: POST", f"Access-Control-Request-Headers: {asked}"]
    answer = ask(keyed, *headers, "Access-Control-Request-Private-Network: true", method="OPTIONS")
    assert answer.status == 204
    assert answer.headers["access-control-allow-headers"].split(", ") == [
        "authorization",
        "content-type",
        *CLIENT_HEADERS,
    ]
    assert answer.headers["access-control-allow-private-network"] == "true"


def test_a_page_of_an_allowed_origin_can_read_when_to_retry(keyed: RawServer) -> None:
    """Browsers hide other headers from pages, and OpenAI's client would not wait for as long as the service asks."""
    answer = ask(keyed, f"Origin: {ORIGIN}", f"Authorization: Bearer {KEY}")
    assert answer.headers["access-control-expose-headers"] == "retry-after, x-should-retry"


def test_the_own_origin_needs_no_preflight(keyed: RawServer) -> None:
    answer = ask(keyed, "Origin: http://127.0.0.1:%d", "Access-Control-Request-Method: POST", method="OPTIONS")
    assert (answer.status, answer.code) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("path", "key", "status"), [("/", KEY, 200), ("/", "", 401), ("/zebra", KEY, 500), ("/broken", KEY, 200)]
)
def test_an_allowed_origin_can_read_answers_errors_and_streams(
    keyed: RawServer, path: str, key: str, status: int
) -> None:
    with keyed.connect() as client:
        lines = [f"GET {path} HTTP/1.1", f"Host: localhost:{keyed.port}", f"Origin: {ORIGIN}", "Authorization: Bearer"]
        send_bytes(client, "\r\n".join(lines).encode() + f" {key}\r\n\r\n".encode())
        start = client.recv(65536).lower()
    assert b" %d " % status in start.partition(b"\r\n")[0]
    assert f"access-control-allow-origin: {ORIGIN}\r\n".encode() in start
    assert b"vary: origin\r\n" in start
    assert b"cross-origin-resource-policy" not in start


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://kiosk.example.evil.example", "https://kiosk.example:444", "null"]
)
def test_no_other_origin_is_allowed(keyed: RawServer, origin: str) -> None:
    answer = ask(keyed, f"Origin: {origin}", f"Authorization: Bearer {KEY}")
    assert (answer.status, "access-control-allow-origin" in answer.headers) == (403, False)


WRONG_CREDENTIALS = [
    f"Bearer {key}" for key in ("", f"{KEY}x", KEY[:-1], KEY.upper(), f"{KEY} {KEY}", "kiosk", "ÿ" * 16)
]
WRONG_CREDENTIALS += ["Bearer", KEY, f"Basic {KEY}"]


@pytest.mark.parametrize("presented", [[], *[[line] for line in WRONG_CREDENTIALS], [f"Bearer {KEY}"] * 2])
def test_a_missing_or_wrong_key_is_refused(keyed: RawServer, app: StubApp, presented: list[str]) -> None:
    calls = len(app.calls)
    answer = ask(keyed, *[f"Authorization: {line}" for line in presented], f"api-key: {KEY}", path=f"/?key={KEY}")
    assert (answer.status, answer.code, answer.headers["www-authenticate"]) == (401, "invalid_api_key", "Bearer")
    assert len(app.calls) == calls


PATHS = """/ /v1/models /v1/chat/completions /health/ready /metrics /docs /openapi.json /health/ /health/live/
    //health/live /health/live/../../metrics /metrics?/health/live /health/Live /nothing""".split()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
def test_every_path_but_health_needs_a_key(keyed: RawServer, path: str, method: str) -> None:
    assert ask(keyed, JSON, path=path, method=method).status == 401


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health%2Flive"])
def test_health_needs_no_key(keyed: RawServer, path: str) -> None:
    """Containers and load balancers probe it without one. With ``%2F`` the path is the same for the router."""
    assert ask(keyed, path=path).body == b"-"


@pytest.mark.parametrize(("line", "name"), [(f"Bearer {KEY}", b"kiosk"), (f"bearer  {OTHER_KEY}", b"key-2")])
def test_the_app_gets_the_name_of_the_key(keyed: RawServer, line: str, name: bytes) -> None:
    assert ask(keyed, f"Authorization: {line}").body == name


def test_a_refused_client_that_still_sends_gets_the_response(plain: RawServer) -> None:
    """Closing a socket with unread bytes resets it, and many clients then lose the response."""
    size = 8_000_000
    with plain.connect() as client:
        lines = f"POST / HTTP/1.1\r\nHost: localhost:{plain.port}\r\nContent-Length: {size}\r\n\r\n"
        client.sendall(lines.encode())
        for _ in range(size // 100_000):
            client.sendall(bytes(100_000))
        answer = read_reply(client)
        assert (answer.status, answer.headers["connection"]) == (415, "close")
        assert client.recv(1) == b""  # closed, not reset


def test_an_unread_body_is_not_parsed_as_a_request(plain: RawServer) -> None:
    with plain.connect() as client:
        inner = b"GET /inner HTTP/1.1\r\n\r\n"
        lines = f"POST / HTTP/1.1\r\nHost: localhost:{plain.port}\r\n{JSON}\r\nContent-Length: {len(inner)}\r\n\r\n"
        send_bytes(client, lines.encode() + inner)
        assert read_reply(client).headers["connection"] == "close"
        assert read_to_end(client) == b""


def test_while_stopping_posts_get_503(plain: RawServer, app: StubApp) -> None:
    app.stopping = True
    try:
        answer = ask(plain, JSON, method="POST")
        assert (answer.status, answer.code) == (503, "stopping")
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("5", "close")
        assert ask(plain, path="/health/ready").status == 200
    finally:
        app.stopping = False


def test_every_response_has_the_security_headers(plain: RawServer) -> None:
    expected = {
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "x-frame-options": "DENY",
    }
    for answer in (ask(plain), ask(plain, path="/zebra"), ask(plain, method="POST"), ask(plain, host="evil.example")):
        assert {name: answer.headers.get(name) for name in expected} == expected
    docs = ask(plain, path="/docs")
    assert docs.headers["x-frame-options"] == "SAMEORIGIN"
    assert docs.headers["content-security-policy"] == "default-src 'self'"


def test_an_error_is_one_log_line_and_a_generic_500(plain: RawServer, caplog: pytest.LogCaptureFixture) -> None:
    """Uvicorn would log the traceback and answer in plain text."""
    answer = ask(plain, path="/zebra")
    assert (answer.status, answer.code) == (500, "internal_error")
    assert b"zebra" not in answer.body
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.name, record.exc_info) == ("vlrun.server", None)
    assert record.getMessage().startswith("a request failed: ValueError at ")
    assert "raw_server.py:" in record.getMessage()
    assert "zebra" not in record.getMessage()
    assert "\n" not in record.getMessage()


def test_an_error_in_a_stream_ends_the_connection(plain: RawServer, caplog: pytest.LogCaptureFixture) -> None:
    with plain.connect() as client:
        send_bytes(client, f"GET /broken HTTP/1.1\r\nHost: localhost:{plain.port}\r\n\r\n".encode())
        end = read_to_end(client)
    assert end.endswith(b"5\r\nbegun\r\n")  # no last chunk, so the client can tell
    wait_until(lambda: len(caplog.records) == 1)
    assert "ValueError" in caplog.text
    assert "zebra" not in caplog.text


OUTCOMES = [("/refused", 400, "invalid_value"), ("/stopped", 503, "stopping")]
OUTCOMES += [("/silent", 500, "internal_error")]


@pytest.mark.parametrize(("path", "status", "code"), OUTCOMES)
def test_other_exceptions_of_the_app_become_errors(
    plain: RawServer, caplog: pytest.LogCaptureFixture, path: str, status: int, code: str
) -> None:
    answer = ask(plain, path=path)
    assert (answer.status, answer.code) == (status, code)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_unix_socket_allows_hosts_without_a_port(app: StubApp, tmp_path: Path) -> None:
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
