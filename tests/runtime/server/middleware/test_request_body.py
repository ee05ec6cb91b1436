"""Bodies: their size, their time, and the budget that all share. Rows 4, 25 and 26 of the fault table."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
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

LIMITS = ServerLimits(max_body_mib=2, body_seconds=0.4, bodies_mib=4)


def scope(*lengths: str) -> Scope:
    return {"type": "http", "headers": [(b"content-length", length.encode()) for length in lengths]}


def receive_from(parts: AsyncIterator[bytes]) -> Receive:
    """A server's ``receive`` over parts of a body, whose end is a message of its own."""

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
    async with hold_body(scope, receive, LIMITS, budget) as body:
        assert budget.held >= len(body)
        return len(body)


def test_a_promise_that_is_too_large_is_refused_unread() -> None:
    budget, parts = BodyBudget(4 * MIB), list[int]()
    with pytest.raises(ApiError) as caught:
        asyncio.run(read(scope(str(2 * MIB + 1)), receive_from(parts_of(MIB, MIB, parts)), budget))
    assert (caught.value.status, parts, budget.held) == (413, [], 0)


def test_chunks_are_refused_as_soon_as_they_are_too_many() -> None:
    """A body without a length was taken whole: 200 MB of it."""
    budget, parts = BodyBudget(4 * MIB), list[int]()
    with pytest.raises(ApiError) as caught:
        asyncio.run(read(scope(), receive_from(parts_of(64 * MIB, MIB // 4, parts)), budget))
    assert (caught.value.status, sum(parts), budget.held) == (413, 2 * MIB + MIB // 4, 0)
    assert ("connection", "close") in caught.value.all_headers()


@pytest.mark.parametrize(
    "lengths", [("-1",), ("+1",), ("1_0",), ("",), ("1.0",), ("9" * 19,), ("x",), ("²",), ("5", "5")]
)
def test_a_length_that_is_none(lengths: tuple[str, ...]) -> None:
    budget = BodyBudget(4 * MIB)
    with pytest.raises(ApiError) as caught:
        asyncio.run(read(scope(*lengths), receive_from(parts_of(0, 1, [])), budget))
    assert (caught.value.status, budget.held) == (400, 0)


@pytest.mark.parametrize("size", [0, 1, 2 * MIB])
@pytest.mark.parametrize("promised", [True, False])
def test_the_largest_is_read(size: int, promised: bool) -> None:
    budget = BodyBudget(4 * MIB)
    lengths = [str(size)] if promised else []
    parts = parts_of(size, max(1, size // 8), [])
    assert asyncio.run(read(scope(*lengths), receive_from(parts), budget)) == size
    assert budget.held == 0


@pytest.mark.parametrize("promised", [True, False])
def test_memory_is_one_body(promised: bool) -> None:
    """Joined or copied in the end, a body would be there twice; appended to as bytes, its time would be quadratic."""
    lengths = [str(2 * MIB)] if promised else []
    tracemalloc.start()
    asyncio.run(read(scope(*lengths), receive_from(parts_of(2 * MIB, 16 * 1024, [])), BodyBudget(4 * MIB)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * MIB


@pytest.mark.parametrize("sends", [False, True], ids=["nothing", "a byte now and then"])
def test_a_slow_body_gives_its_budget_back(sends: bool) -> None:
    """Much promised and little sent: it holds the budget for ``body_seconds`` at most."""
    budget = BodyBudget(4 * MIB)

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


def test_a_client_that_leaves_is_no_error_of_anybody() -> None:
    budget = BodyBudget(4 * MIB)

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(AnswerCancelled):
        asyncio.run(read(scope("5"), gone, budget))
    assert budget.held == 0


@pytest.mark.parametrize("error", [ApiError(400, "no"), ValueError(), asyncio.CancelledError()])
def test_the_budget_comes_back_however_the_block_ends(error: BaseException) -> None:
    budget = BodyBudget(4 * MIB)

    async def fail() -> None:
        async with hold_body(scope("1000"), receive_from(parts_of(1000, 100, [])), LIMITS, budget):
            assert budget.held == 1000
            raise error

    with pytest.raises(type(error)):
        asyncio.run(fail())
    assert budget.held == 0


def test_a_promise_takes_nothing() -> None:
    """Guards everybody from a few who announce the largest bodies and send none: they kept the budget for 30 s."""
    budget = BodyBudget(2 * MIB)

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


@pytest.mark.parametrize(("lengths", "held"), [((str(STEP - 1),), STEP - 1), ((), STEP)], ids=["promised", "in steps"])
def test_whoever_finds_no_budget_waits(lengths: tuple[str, ...], held: int) -> None:
    budget = BodyBudget(held)

    async def two() -> None:
        async with hold_body(scope(*lengths), receive_from(parts_of(1000, 1000, [])), LIMITS, budget):
            assert budget.held == held
            with pytest.raises(ApiError) as caught:
                await read(scope(*lengths), receive_from(parts_of(1000, 1000, [])), budget)
            assert (caught.value.status, caught.value.code, caught.value.retry_after) == (429, "busy", 1)
            assert budget.held == held

    asyncio.run(two())
    assert budget.held == 0


class Counting:
    """An app that says how long its request was."""

    def __init__(self) -> None:
        self.budget = BodyBudget(LIMITS.bodies_mib * MIB)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with hold_body(scope, receive, LIMITS, self.budget) as body:
            answer = str(len(body)).encode()
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@pytest.fixture(scope="module")
def app() -> Counting:
    return Counting()


@pytest.fixture(scope="module")
def server(app: Counting) -> Iterator[RawServer]:
    guard = SecurityMiddleware(app, frozenset(), frozenset(), None, lambda: False)
    with serve_app(guard, LIMITS) as running:
        yield running


def head(server: RawServer, *lines: bytes) -> bytes:
    host = b"Host: 127.0.0.1:%d" % server.port
    return b"\r\n".join((b"POST / HTTP/1.1", host, b"Content-Type: application/json", *lines, b"", b""))


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("chunked", [True, False], ids=["in chunks", "with its length"])
def test_64_mib_over_a_socket(server: RawServer, app: Counting, chunked: bool) -> None:
    """Row 4: it is told early, and nothing of it stays."""
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (64 * MIB)
    part = b"10000\r\n" + bytes(65_536) + b"\r\n"
    before = resident()
    with server.connect() as client:
        send_bytes(client, head(server, framing))
        for _ in range(40):
            client.sendall(part)  # what was on its way when the answer came does no harm
        answer = read_reply(client)
        assert (answer.status, answer.code, answer.headers["connection"]) == (413, "request_too_large", "close")
        assert resident() - before < 16 * MIB
        client.close()
    wait_until(lambda: server.connections() == 0)
    assert app.budget.held == 0


def test_a_body_in_one_byte_steps_and_then_nothing_over_a_socket(server: RawServer, app: Counting) -> None:
    """Row 26: slow body."""
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


def test_good_bodies_over_a_socket(server: RawServer, app: Counting) -> None:
    """Both framings, one after the other on a connection, and with ``Expect: 100-continue``."""
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


def test_a_client_that_waits_for_100_is_told_before_it_sends(server: RawServer) -> None:
    with server.connect() as client:
        send_bytes(client, head(server, b"Content-Length: %d" % (3 * MIB), b"Expect: 100-continue"))
        answer = read_reply(client)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (413, "request_too_large")
