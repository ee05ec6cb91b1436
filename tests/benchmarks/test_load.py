"""The load test's own arithmetic and judgement, and a short soak of a real service that is killed in the middle."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Sequence

import pytest

from benchmarks.load import report
from benchmarks.load.clients import Client, Killed, Outcome
from benchmarks.load.figures import fairness, percentile, slope
from benchmarks.load.images import Album
from benchmarks.load.overhead import Compared, Plan, goals
from benchmarks.load.questions import Mixture
from benchmarks.load.serving import Serving, vitals
from benchmarks.load.soak import Plan as Soak
from benchmarks.load.soak import soak
from benchmarks.load.watch import Sample, last_half, values
from benchmarks.load.wire import Address, Caller, request

BUSY = b"HTTP/1.1 429 Too Many\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
BROKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
HUNG_UP = b""
FAILED = b"HTTP/1.1 500 Failed\r\nContent-Length: 2\r\n\r\n{}"


def answer(body: object) -> bytes:
    encoded = json.dumps(body).encode()
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(encoded)}\r\n\r\n".encode() + encoded


def test_percentiles_lie_between_the_values() -> None:
    """Guards p50 and p95 in the docs."""
    assert percentile([4, 1, 3, 2], 0.5) == 2.5
    assert percentile(range(101), 0.95) == 95
    assert percentile([7], 0.95) == 7
    assert math.isnan(percentile([], 0.5))


def test_a_slope_is_that_of_the_nearest_line() -> None:
    """Guards the judgement of leaks: noise has no slope, a leak has its own."""
    leak = [(number, 100 + 0.25 * number + (-1) ** number) for number in range(200)]
    assert slope(leak) == pytest.approx(0.25, abs=0.001)
    assert slope([(number, 100.0) for number in range(9)]) == 0
    assert math.isnan(slope([(1, 2.0), (1, 3.0)]))
    assert math.isnan(slope([]))


def test_fairness_is_of_clients_and_not_of_requests() -> None:
    """Guards a client that waits long and so asks seldom: its few waits count as much as another's many."""
    waits = {"a": [0.5, 1.0, 8.0] * 33, "b": [1.2] * 100, "c": [9.0], "d": []}
    assert fairness(waits) == (1.0, 1.2, 9.0)
    assert all(math.isnan(value) for value in fairness({}))


def sample(at: float, pid: int = 1) -> Sample:
    return Sample(at, pid, round(at), vitals("self"), {})


def test_the_last_half_is_of_the_last_process() -> None:
    """Guards the slope of a run with a kill: a new process is small, the old one was large."""
    samples = [*(sample(at, 1) for at in range(10)), *(sample(at, 2) for at in range(10, 21))]
    assert [one.at for one in last_half(samples)] == [15, 16, 17, 18, 19, 20]


def test_gauges_are_read_and_what_is_held_is_told() -> None:
    """Guards "nothing is held at rest": our own connection is not held, another one is."""
    told = '# HELP a b\nvlrun_engine_running 2.0\nvlrun_connections 1.0\nc{kind="d e"} 3\n'
    assert values(told) == {"vlrun_engine_running": 2.0, "vlrun_connections": 1.0, 'c{kind="d e"}': 3.0}
    assert Sample(0, 1, 0, vitals("self"), values(told)).held == {"vlrun_engine_running": 2.0}
    assert Sample(0, 1, 0, vitals("self"), {"vlrun_connections": 3.0}).held == {"vlrun_connections": 2.0}


def test_every_question_has_a_status_and_a_check() -> None:
    """Guards the mixture: all kinds come, each of them again the same for the same seed."""
    album = Album(4, 1)
    first, second = ([Mixture(album, "x").next() for _ in range(1)] for _ in range(2))
    assert [one.body for one in first] == [one.body for one in second]
    drawn = [question for mixture in (Mixture(album, "y"),) for question in (mixture.next() for _ in range(300))]
    assert {question.name.partition(",")[0] for question in drawn} == {
        *("an image", "the shelf", "text", "a conversation", "a schema", "two answers", "a new image"),
        *("tokens counted", "a form", "a wrong request"),
    }
    assert {question.status for question in drawn} == {200, 400, 404}
    assert {question.stream for question in drawn} == {True, False}


def met(replies: Sequence[bytes], story: Callable[[Address], Awaitable[None]]) -> int:
    """Have the story meet a server that answers so, one reply a request; how many connections it took."""
    count = 0
    waiting = list(replies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        while waiting:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = head.lower().partition(b"content-length: ")[2]
            await reader.readexactly(int(length.split(b"\r")[0] or 0))
            reply = waiting.pop(0)
            writer.write(reply)
            if reply in (BROKEN, HUNG_UP):
                break
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1") as server:
            await story(server.sockets[0].getsockname())

    asyncio.run(asyncio.wait_for(run(), 10))
    return count


def outcomes(replies: Sequence[bytes], killed: Killed, most: int) -> list[Outcome]:
    """Of a client that stays, until ``most`` requests have ended."""
    found: list[Outcome] = []

    async def story(address: Address) -> None:
        client = Client(address, "127.0.0.2", Mixture(Album(1, 1), "x"), killed, found.append)
        client.leaving = 0.0
        await client.run(lambda: len(found) < most)

    met(replies, story)
    return found


def test_what_is_no_right_answer_is_a_failure() -> None:
    """Guards "no error but 429" against a generator that looks away."""
    replies = [FAILED, BROKEN, answer({"choices": []}), answer({"strange": 1})]
    found = outcomes(replies, Killed(), 4)
    assert [one.end for one in found[:2]] == ["failed", "failed"]
    assert (found[0].status, found[0].fault) == (500, "500 in place of 200: {}")
    assert "IncompleteReadError" in found[1].fault
    assert found[3].fault.startswith(("the answer cannot be read", "the stream ended"))


def test_a_client_that_is_told_to_comes_again() -> None:
    """Guards the retry: as often as it is told, and not before."""
    found = outcomes([BUSY, FAILED], Killed(), 2)
    assert [one.end for one in found] == ["busy", "failed"]
    assert found[0].name == found[1].name
    assert found[1].began - found[0].ended >= 1
    assert found[1].patience >= 1


def test_only_what_was_on_its_way_is_lost_with_a_killed_process() -> None:
    """Guards the count after a kill: what begins later may not fail."""
    killed = Killed()
    killed.at = math.inf
    assert [one.end for one in outcomes([BROKEN], killed, 1)] == ["lost"]
    killed.at = 0.0
    assert [one.end for one in outcomes([BROKEN], killed, 1)] == ["failed"]


def test_a_connection_that_was_closed_meanwhile_is_no_failure() -> None:
    """Guards the generator against its own keep-alive, and against hiding what a fresh connection does."""

    async def twice(address: Address) -> None:
        caller = Caller(address, "127.0.0.2")
        for _ in range(2):
            assert await caller.ask(request(address, "/")) == (200, b"1")
        caller.leave()

    async def once(address: Address) -> None:
        caller = Caller(address, "127.0.0.2")
        with pytest.raises(EOFError):
            await caller.ask(request(address, "/"))
        caller.leave()

    assert met([answer(1), HUNG_UP, answer(1)], twice) == 2
    assert met([HUNG_UP, answer(1)], once) == 1


def test_goals_of_the_overhead() -> None:
    """Guards both bounds."""
    slow, quick = Compared(12, 9, 3, (2, 4)), Compared(10, 9, 1, (1, 1))
    lossy, good = Compared(90, 100, 0.1, (0, 1)), Compared(99, 100, 0.01, (0, 1))
    assert [goal.reached for goal in goals({"request": slow, "streams": lossy})] == [False, False]
    assert [goal.reached for goal in goals({"request": quick, "streams": good})] == [True, True]
    assert Plan().name == "embedded"


def test_a_short_soak() -> None:
    """Guards the soak itself, against a real service: everything comes, many leave, one kill loses what was running."""
    plan = Soak(clients=24, seconds=8, images=8, kill=True, every=0.2)
    with Serving() as serving:
        found = asyncio.run(soak(serving, plan))
    told = report.figures(found)
    assert not told["faults"]
    assert not told["complaints"]
    assert not told["held"]
    assert told["files"][0] == told["files"][1]
    assert 0 < told["ends"]["lost"] <= told["in_flight"]
    assert told["ends"]["answered"] > 20
    assert told["left_share"] > 0.1
    assert len(report.table(told)) > 10
    assert json.loads(json.dumps(told))["clients"] == 24
