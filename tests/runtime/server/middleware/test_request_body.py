"""Request bodies: size, time, and the shared memory budget. Rows 4, 25 and 26 of the fault table."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.runtime.server.middleware.raw_server import (
    RawServer,
    read_reply,
    read_to_end,
    send_bytes,
    serve_app,
    wait_until,
)
from vlrun.errors import AnswerCancelled
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import MIB, ServerLimits
from vlrun.server.middleware.request_body import STEP, BodyBudget, hold_body
from vlrun.server.middleware.security import SecurityMiddleware

CLIENT = "@127.0.0.1"
LIMITS = ServerLimits(max_body_mib=2, body_seconds=0.4, bodies_mib=4)


def scope(*lengths: str) -> Scope:
    return {"type": "http", "headers": [(b"content-length", length.encode()) for length in lengths]}


def receive_from(parts: AsyncIterator[bytes]) -> Receive:
    """An ASGI ``receive`` that yields parts of a body, then an empty last message."""

    async def receive() -> Message:
        async for part in parts:
            return {"type": "http.request", "body": part, "more_body": True}
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


async def parts_of(size: int, each: int, times: list[int]) -> AsyncIterator[bytes]:
    for _ in range(size // each):
        times.append(each)
        yield bytes(each)


async def read(scope: Scope, receive: Receive, budget: BodyBudget) -> int:
    async with hold_body(scope, receive, LIMITS, budget, CLIENT) as body:
        assert budget.held >= len(body)
        return len(body)


def test_a_content_length_over_the_limit_is_refused_unread() -> None:
    budget, parts = BodyBudget(4 * MIB, 4 * MIB), list[int]()
    with pytest.raises(ApiError) as caught:
        asyncio.run(read(scope(str(2 * MIB + 1)), receive_from(parts_of(MIB, MIB, parts)), budget))
    assert (caught.value.status, parts, budget.held) == (413, [], 0)


def test_a_chunked_body_is_refused_at_the_limit() -> None:
    """A body without Content-Length was once read completely: 200 MB."""
    budget, parts = BodyBudget(4 * MIB, 4 * MIB), list[int]()
    with pytest.raises(ApiError) as caught:
        asyncio.run(read(scope(), receive_from(parts_of(64 * MIB, MIB // 4, parts)), budget))
    assert (caught.value.status, sum(parts), budget.held) == (413, 2 * MIB + MIB // 4, 0)
    assert ("connection", "close") in caught.value.all_headers()


@pytest.mark.parametrize(
    "lengths", [("-1",), ("+1",), ("1_0",), ("",), ("1.0",), ("9" * 19,), ("x",), ("²",), ("5", "5")]
)
def test_an_invalid_content_length_is_refused(lengths: tuple[str, ...]) -> None:
    budget = BodyBudget(4 * MIB, 4 * MIB)
    with pytest.raises(ApiError) as caught:
        asyncio.run(read(scope(*lengths), receive_from(parts_of(0, 1, [])), budget))
    assert (caught.value.status, budget.held) == (400, 0)


@pytest.mark.parametrize("size", [0, 1, 2 * MIB])
@pytest.mark.parametrize("with_length", [True, False])
def test_a_body_up_to_the_limit_is_read(size: int, with_length: bool) -> None:
    budget = BodyBudget(4 * MIB, 4 * MIB)
    lengths = [str(size)] if with_length else []
    parts = parts_of(size, max(1, size // 8), [])
    assert asyncio.run(read(scope(*lengths), receive_from(parts), budget)) == size
    assert budget.held == 0


@pytest.mark.parametrize("with_length", [True, False])
def test_a_body_is_in_memory_once(with_length: bool) -> None:
    """Joining the parts at the end would take twice the memory; appending to bytes, quadratic time."""
    lengths = [str(2 * MIB)] if with_length else []
    tracemalloc.start()
    asyncio.run(read(scope(*lengths), receive_from(parts_of(2 * MIB, 16 * 1024, [])), BodyBudget(4 * MIB, 4 * MIB)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * MIB


@pytest.mark.parametrize("sends", [False, True], ids=["nothing", "a byte now and then"])
def test_a_slow_body_returns_its_budget(sends: bool) -> None:
    """A long Content-Length with few bytes sent holds the budget for at most ``body_seconds``."""
    budget = BodyBudget(4 * MIB, 4 * MIB)

    async def slow() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01 if sends else 60)
            yield b"x"

    began = time.monotonic()
    with pytest.raises(ApiError) as caught:
        asyncio.run(read(scope(str(2 * MIB)), receive_from(slow()), budget))
    assert time.monotonic() - began < 1
    assert (caught.value.status, caught.value.code, budget.held) == (408, "request_timeout", 0)
    assert ("connection", "close") in caught.value.all_headers()


def test_a_disconnect_returns_the_budget() -> None:
    budget = BodyBudget(4 * MIB, 4 * MIB)

    async def disconnect() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(AnswerCancelled):
        asyncio.run(read(scope("5"), disconnect, budget))
    assert budget.held == 0


@pytest.mark.parametrize("error", [ApiError(400, "no"), ValueError(), asyncio.CancelledError()])
def test_every_error_returns_the_budget(error: BaseException) -> None:
    budget = BodyBudget(4 * MIB, 4 * MIB)

    async def fail() -> None:
        async with hold_body(scope("1000"), receive_from(parts_of(1000, 100, [])), LIMITS, budget, CLIENT):
            assert budget.held == 1000
            raise error

    with pytest.raises(type(error)):
        asyncio.run(fail())
    assert budget.held == 0


def test_a_content_length_alone_reserves_no_budget() -> None:
    """A few clients that announced large bodies and sent nothing held the whole budget for 30 s."""
    budget = BodyBudget(2 * MIB, 2 * MIB)

    async def both() -> int:
        never = asyncio.Event()

        async def silent() -> Message:
            await never.wait()
            return {"type": "http.disconnect"}

        announced = [asyncio.ensure_future(read(scope(str(2 * MIB)), silent, budget)) for _ in range(20)]
        await asyncio.sleep(0)
        found = await read(scope("1000"), receive_from(parts_of(1000, 100, [])), budget)
        never.set()
        await asyncio.gather(*announced, return_exceptions=True)
        return found

    assert asyncio.run(both()) == 1000
    assert budget.held == 0


@pytest.mark.parametrize(
    ("lengths", "held"), [((str(STEP - 1),), STEP - 1), ((), STEP)], ids=["with_length", "in steps"]
)
def test_a_body_over_the_budget_gets_429(lengths: tuple[str, ...], held: int) -> None:
    budget = BodyBudget(held, held)

    async def two() -> None:
        async with hold_body(scope(*lengths), receive_from(parts_of(1000, 1000, [])), LIMITS, budget, CLIENT):
            assert budget.held == held
            with pytest.raises(ApiError) as caught:
                await read(scope(*lengths), receive_from(parts_of(1000, 1000, [])), budget)
            assert (caught.value.status, caught.value.code, caught.value.retry_after) == (429, "busy", 1)
            assert budget.held == held

    asyncio.run(two())
    assert budget.held == 0


def encoded_scope(*encodings: str, length: int | None = None) -> Scope:
    lengths = [] if length is None else [(b"content-length", str(length).encode())]
    return {"type": "http", "headers": [*lengths, *((b"content-encoding", each.encode()) for each in encodings)]}


async def pieces(content: bytes, each: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), each):
        yield content[start : start + each]


def read_encoded(content: bytes, *encodings: str, each: int = 65_536) -> bytes:
    """The body that the handler gets."""
    budget = BodyBudget(4 * MIB, 4 * MIB)

    async def read_body() -> bytes:
        scope = encoded_scope(*encodings, length=len(content))
        async with hold_body(scope, receive_from(pieces(content, each)), LIMITS, budget, CLIENT) as body:
            assert budget.held >= len(body)
            return body

    try:
        return asyncio.run(read_body())
    finally:
        assert budget.held == 0


NOISE = os.urandom(1000)
SIZES = [0, 1, STEP - 1, STEP, STEP + 1, 2 * MIB]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("encoding", ["gzip", "GZip", "x-gzip", "deflate"])
@pytest.mark.parametrize("each", [1, 65_536])
def test_a_compressed_body_is_decompressed(size: int, encoding: str, each: int) -> None:
    """Clients that compress got "not UTF-8" for it."""
    body = (NOISE * (size // 1000 + 1))[:size]
    sent = zlib.compress(body) if encoding == "deflate" else gzip.compress(body)
    assert read_encoded(sent, encoding, each=each) == body


@pytest.mark.parametrize("encodings", [(), ("",), ("identity",), ("Identity ",)])
def test_a_body_that_is_not_compressed_stays_as_it_is(encodings: tuple[str, ...]) -> None:
    assert read_encoded(gzip.compress(b"x"), *encodings) == gzip.compress(b"x")


@pytest.mark.parametrize("encodings", [("br",), ("zstd",), ("gzip, gzip",), ("gzip", "gzip"), ("gzip;q=1",), ("*",)])
def test_another_encoding_is_refused_unread(encodings: tuple[str, ...]) -> None:
    """RFC 9110, 15.5.16: the answer says which encodings are read."""
    with pytest.raises(ApiError) as caught:
        read_encoded(b"x", *encodings)
    assert (caught.value.status, caught.value.code) == (415, "unsupported_encoding")
    assert ("accept-encoding", "gzip, deflate, identity") in caught.value.all_headers()


def test_a_compressed_body_that_becomes_nothing_has_the_limit_too() -> None:
    """In chunks, empty blocks were read until the time for a body was over, however many they were."""
    sent, budget = b"\x78\x9c" + b"\x00\x00\x00\xff\xff" * MIB, BodyBudget(MIB, MIB)
    with pytest.raises(ApiError, match="the body is larger than 2 MiB"):
        asyncio.run(read(encoded_scope("deflate"), receive_from(pieces(sent, 65_536)), budget))


WHOLE = gzip.compress(b"{}" * 1000)
DAMAGED = {
    "nothing": b"",
    "not compressed": b"{}",
    "cut short": WHOLE[:-1],
    "a wrong checksum": WHOLE[:-8] + bytes(8),
    "data behind it": WHOLE + b"x",
    "two files": WHOLE + WHOLE,
    "deflate": zlib.compress(b"{}"),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("each", [1, 65_536])
def test_a_damaged_compressed_body_is_refused(name: str, each: int) -> None:
    """A body must not be read in part, nor differently by two readers."""
    with pytest.raises(ApiError) as caught:
        read_encoded(DAMAGED[name], "gzip", each=each)
    assert (caught.value.status, caught.value.code) == (400, "malformed_request")


@pytest.mark.parametrize("size", [2 * MIB + 1, 64 * MIB])
def test_a_decompression_bomb_is_refused_at_the_limit(size: int) -> None:
    """64 MiB take 64 KB: no more than the limit may ever be in memory."""
    bomb = gzip.compress(bytes(size))
    tracemalloc.start()
    with pytest.raises(ApiError) as caught:
        read_encoded(bomb, "gzip", each=len(bomb))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")
    assert peak < len(bomb) + 4 * MIB


def test_a_compressed_body_takes_what_it_becomes_from_the_budget() -> None:
    """Otherwise a few small requests would hold gigabytes."""
    budget, sent = BodyBudget(MIB, MIB), gzip.compress(bytes(2 * MIB))
    with pytest.raises(ApiError) as caught:
        asyncio.run(read(encoded_scope("gzip"), receive_from(pieces(sent, len(sent))), budget))
    assert (caught.value.status, budget.held) == (429, 0)


class BodyLengthApp:
    """An app that answers with the length of the body."""

    def __init__(self) -> None:
        self.budget = BodyBudget(LIMITS.bodies_mib * MIB, LIMITS.bodies_mib * MIB)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with hold_body(scope, receive, LIMITS, self.budget, CLIENT) as body:
            answer = str(len(body)).encode()
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@pytest.fixture(scope="module")
def app() -> BodyLengthApp:
    return BodyLengthApp()


@pytest.fixture(scope="module")
def server(app: BodyLengthApp) -> Iterator[RawServer]:
    middleware = SecurityMiddleware(app, frozenset(), frozenset(), None, lambda: False)
    with serve_app(middleware, LIMITS) as running:
        yield running


def head(server: RawServer, *lines: bytes) -> bytes:
    host = b"Host: 127.0.0.1:%d" % server.port
    return b"\r\n".join((b"POST / HTTP/1.1", host, b"Content-Type: application/json", *lines, b"", b""))


def resident() -> int:
    """Resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("chunked", [True, False], ids=["in chunks", "with its length"])
def test_64_mib_over_a_socket_get_413(server: RawServer, app: BodyLengthApp, chunked: bool) -> None:
    """Row 4: the response comes early, and no memory is kept."""
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (64 * MIB)
    part = b"10000\r\n" + bytes(65_536) + b"\r\n"
    before = resident()
    with server.connect() as client:
        send_bytes(client, head(server, framing))
        for _ in range(40):
            client.sendall(part)  # bytes in flight when the response is sent do no harm
        answer = read_reply(client)
        assert (answer.status, answer.code, answer.headers["connection"]) == (413, "request_too_large", "close")
        assert resident() - before < 16 * MIB
        client.close()
    wait_until(lambda: server.connections() == 0)
    assert app.budget.held == 0


def test_a_slow_body_over_a_socket_gets_408(server: RawServer, app: BodyLengthApp) -> None:
    """Row 26."""
    with server.connect() as client:
        send_bytes(client, head(server, b"Content-Length: 1000"))
        for _ in range(5):
            send_bytes(client, b"x")
        wait_until(lambda: app.budget.held == 1000)
        began = time.monotonic()
        answer = read_reply(client)
        assert (answer.status, answer.code, answer.headers["connection"]) == (408, "request_timeout", "close")
        assert app.budget.held == 0
        assert read_to_end(client) == b""
        assert time.monotonic() - began < 4


def test_valid_bodies_over_a_socket(server: RawServer, app: BodyLengthApp) -> None:
    """Both framings in turn on one connection, and with ``Expect: 100-continue``."""
    with server.connect() as client:
        send_bytes(client, head(server, b"Content-Length: 1000000") + bytes(1_000_000))
        assert read_reply(client).body == b"1000000"
        chunk = b"%x\r\n%s\r\n" % (5000, bytes(5000))
        send_bytes(client, head(server, b"Transfer-Encoding: chunked") + chunk * 100 + b"0\r\n\r\n")
        assert read_reply(client).body == b"500000"
        send_bytes(client, head(server, b"Content-Length: 3", b"Expect: 100-continue"))
        assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
        send_bytes(client, b"abc")
        assert read_reply(client).body == b"3"
    assert app.budget.held == 0


def test_expect_100_continue_gets_413_before_the_body(server: RawServer) -> None:
    with server.connect() as client:
        send_bytes(client, head(server, b"Content-Length: %d" % (3 * MIB), b"Expect: 100-continue"))
        answer = read_reply(client)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (413, "request_too_large")


@pytest.mark.fault(49)
def test_one_client_holds_only_its_share_of_the_budget() -> None:
    """A few clients with many large bodies left nothing for others."""
    budget = BodyBudget(4 * MIB, MIB)
    budget.take(MIB, "a")
    with pytest.raises(ApiError) as caught:
        budget.take(1, "a")
    assert caught.value.status == 429
    budget.take(MIB, "b")
    budget.give_back(MIB, "a")
    budget.take(MIB, "a")
    budget.give_back(MIB, "a")
    budget.give_back(MIB, "b")
    assert budget.held == 0
