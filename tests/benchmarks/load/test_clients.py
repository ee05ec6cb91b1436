"""How simulated clients judge responses, retry and count losses."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.load.clients import Client, KillEvent, Outcome
from benchmarks.load.http_client import Address
from benchmarks.load.images import ImageSet
from benchmarks.load.request_mix import RequestMix
from tests.benchmarks.load.fake_service import BROKEN, BUSY, FAILED, answer, respond


def outcomes(replies: Sequence[bytes], killed: KillEvent, most: int) -> list[Outcome]:
    """Outcomes of a client that never leaves, until ``most`` requests have ended."""
    found: list[Outcome] = []

    async def scenario(address: Address) -> None:
        client = Client(address, "127.0.0.2", RequestMix(ImageSet(1, 1), "x"), killed, found.append)
        client.leave_share = 0.0
        await client.run(lambda: len(found) < most)

    respond(replies, scenario)
    return found


def test_wrong_answers_are_failures() -> None:
    """Guards "no errors except 429" against a generator that ignores errors."""
    replies = [FAILED, BROKEN, answer({"choices": []}), answer({"strange": 1})]
    found = outcomes(replies, KillEvent(), 4)
    assert [one.end for one in found[:2]] == ["failed", "failed"]
    assert (found[0].status, found[0].fault) == (500, "500 in place of 200: {}")
    assert "IncompleteReadError" in found[1].fault
    assert found[3].fault.startswith(("the answer cannot be parsed", "the stream ended"))


def test_a_client_retries_after_429() -> None:
    """Guards the retry: not before the time in Retry-After."""
    found = outcomes([BUSY, FAILED], KillEvent(), 2)
    assert [one.end for one in found] == ["busy", "failed"]
    assert found[0].name == found[1].name
    assert found[1].began - found[0].ended >= 1
    assert found[1].total_wait >= 1


def test_only_requests_in_flight_are_lost_with_a_killed_process() -> None:
    """Guards the count after a kill: a request that begins later must not fail."""
    killed = KillEvent()
    killed.at = math.inf
    assert [one.end for one in outcomes([BROKEN], killed, 1)] == ["lost"]
    killed.at = 0.0
    assert [one.end for one in outcomes([BROKEN], killed, 1)] == ["failed"]
