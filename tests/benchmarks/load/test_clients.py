"""How simulated clients judge responses, retry and count losses."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.load.clients import Client, KillEvent, Outcome
from benchmarks.load.http_client import Address
from benchmarks.load.images import ImageSet
from benchmarks.load.request_mix import RequestMix
from tests.benchmarks.load.fake_service import BROKEN, BUSY, FAILED, answer, serve_responses


def outcomes(replies: Sequence[bytes], killed: KillEvent, count: int) -> list[Outcome]:
    """Return the outcomes of a client until ``count`` requests have ended."""
    found: list[Outcome] = []

    async def scenario(address: Address) -> None:
        client = Client(address, "127.0.0.2", RequestMix(ImageSet(1, 1), "x"), killed, found.append)
        client.leave_share = 0.0
        await client.run(lambda: len(found) < count)

    serve_responses(replies, scenario)
    return found


def test_wrong_answers_are_failures() -> None:
    replies = [FAILED, BROKEN, answer({"choices": []}), answer({"unknown": 1})]
    found = outcomes(replies, KillEvent(), 4)
    assert [outcome.end for outcome in found[:2]] == ["failed", "failed"]
    assert (found[0].status, found[0].fault) == (500, "500 in place of 200: {}")
    assert "IncompleteReadError" in found[1].fault
    assert found[3].fault.startswith(("the answer cannot be parsed", "the stream ended"))


def test_a_client_waits_for_retry_after() -> None:
    found = outcomes([BUSY, FAILED], KillEvent(), 2)
    assert [outcome.end for outcome in found] == ["busy", "failed"]
    assert found[0].name == found[1].name
    assert found[1].began - found[0].ended >= 1
    assert found[1].total_wait >= 1


def test_only_requests_in_flight_are_lost_with_a_killed_process() -> None:
    """A request that begins after the kill must not fail."""
    killed = KillEvent()
    killed.at = math.inf
    assert [outcome.end for outcome in outcomes([BROKEN], killed, 1)] == ["lost"]
    killed.at = 0.0
    assert [outcome.end for outcome in outcomes([BROKEN], killed, 1)] == ["failed"]
