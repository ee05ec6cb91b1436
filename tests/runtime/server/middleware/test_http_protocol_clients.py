"""Connections of one client cannot keep out those of others. Row 49 of the fault table."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.runtime.server.middleware.raw_server import (
    GET,
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
from vlrun.server.middleware import http_protocol as protocol_module

pytestmark = pytest.mark.usefixtures("no_warnings")

ATTACKER, OTHER = "127.0.0.2", "127.0.0.3"
SLOW_BODY = post(b"Content-Length: 1000") + b"x"
HALF_HEAD = b"GET / HTTP/1.1\r\nHost: h\r\nX: "


@contextmanager
def attack(server: RawServer, count: int, request: bytes, source: str = ATTACKER) -> Iterator[list[socket.socket]]:
    """Open connections with incomplete requests, and wait until the server has seen them or refused them."""
    with ExitStack() as opened:
        clients = [opened.enter_context(server.connect(source=source)) for _ in range(count)]
        for client in clients:
            send_bytes(client, request)
        wait_until(lambda: server.connections() + len(server.refused) >= count)
        yield clients


@pytest.mark.fault(49)
@pytest.mark.parametrize("request_", [SLOW_BODY, HALF_HEAD, b""], ids=["slow bodies", "slow heads", "silent"])
def test_one_client_takes_only_its_share(request_: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 slow bodies from one address took all connections: for 30 s everybody else got 503, repeatable."""
    monkeypatch.setattr(protocol_module, "SILENT_SECONDS", 600)  # or a slow machine closes connections, unrefused
    limits = ServerLimits(connections=40, client_connections=10)
    with serve_app(RecordingApp(), limits) as server, attack(server, 50, request_):
        wait_until(lambda: server.connections() <= 10)
        for source in (OTHER, "127.0.0.4"):
            assert server.request_once(GET, source).body == b"ok"
        assert set(server.refused) == {503}


@pytest.mark.fault(49)
def test_a_client_over_its_share_gets_503_until_it_closes_one() -> None:
    limits = ServerLimits(client_connections=2)
    with serve_app(RecordingApp(), limits) as server, attack(server, 2, SLOW_BODY) as clients:
        refused = server.request_once(GET, ATTACKER)
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "busy", "1")
        clients[0].close()
        wait_until(lambda: server.connections() == 1)
        assert server.request_once(GET, ATTACKER).body == b"ok"


@pytest.mark.fault(49)
def test_many_addresses_lose_slow_bodies_to_a_client_with_fewer() -> None:
    """Four addresses with their full shares would lock out others as one did."""
    limits = ServerLimits(connections=8, client_connections=4)
    with (
        serve_app(RecordingApp(), limits) as server,
        attack(server, 4, SLOW_BODY) as first,
        attack(server, 4, SLOW_BODY, "127.0.0.4") as second,
    ):
        wait_until(lambda: server.connections() == 8)
        assert server.request_once(GET, OTHER).body == b"ok"
        assert server.refused == [503]
        (evicted,) = (client for client in first + second if _is_answered(client))
        assert read_reply(evicted).status == 503
        assert read_to_end(evicted) == b""


def _is_answered(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        client.settimeout(5)


def test_requests_that_are_being_answered_are_not_closed() -> None:
    """A newcomer never ends another client's work, only requests that are still incomplete."""
    request = head(first=b"GET /begin HTTP/1.1")
    with (
        serve_app(RecordingApp(), ServerLimits(connections=2)) as server,
        attack(server, 2, request) as clients,
    ):
        wait_until(lambda: all(_is_answered(client) for client in clients))
        assert server.request_once(GET, OTHER).status == 503
        wait_until(lambda: server.connections() == 2)


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("nonsense", "nonsense"),
    ],
)
def test_an_ipv6_network_is_one_client(host: str, network: str) -> None:
    assert protocol_module._network(host) == network


@pytest.mark.slow
@pytest.mark.fault(28)
def test_a_client_that_reads_next_to_nothing_is_disconnected() -> None:
    """A byte every few seconds kept a stream and its slot for minutes."""
    limits = ServerLimits(write_seconds=0.4, read_rate=200_000)
    with serve_app(RecordingApp(), limits) as server, server.connect(receive_buffer=2048) as client:
        send_bytes(client, head(first=b"GET /large?4000000 HTTP/1.1"))
        end = time.monotonic() + 20
        with suppress(ConnectionResetError):
            while server.connections() and time.monotonic() < end:
                client.recv(256)
                time.sleep(0.01)
        wait_until(lambda: not server.connections())
