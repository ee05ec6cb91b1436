"""The way of a request, where it ends otherwise than with an answer."""

from __future__ import annotations

import asyncio
import traceback
from typing import cast

import pytest
from starlette.types import Message, Scope

from vlrun.errors import AnswerCancelled
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import ServerLimits
from vlrun.server.metrics import Metrics
from vlrun.server.request_handler import RequestHandler
from vlrun.vlm import VLM


async def stay_connected() -> Message:
    await asyncio.sleep(10)
    return {"type": "http.disconnect"}


async def disconnect() -> Message:
    return {"type": "http.disconnect"}


def handler() -> RequestHandler:
    return RequestHandler(cast(VLM, None), ServerLimits(), cast(Metrics, None))


def test_what_fails_is_told_with_its_own_place() -> None:
    """Guards the log: an error that is raised again on its way loses the place where it came from."""

    async def broken() -> None:
        raise ValueError("zebra")

    with pytest.raises(ValueError, match="zebra") as caught:
        asyncio.run(handler().run_until_left(stay_connected, broken()))
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "broken"


def test_work_ends_before_its_client_is_gone() -> None:
    """Guards the turn of the next one: it begins only when the work for the one who left is over."""
    ended: list[str] = []

    async def working() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.01)
            ended.append("over")

    with pytest.raises(AnswerCancelled):
        asyncio.run(handler().run_until_left(disconnect, working()))
    assert ended == ["over"]


def test_a_token_count_has_a_deadline() -> None:
    """Guards row 30 where no answer is made: a request whose turn does not come gets a 504."""

    async def scenario() -> None:
        short_deadline = RequestHandler(
            cast(VLM, None), ServerLimits(parallel=1, deadline=0.05), Metrics(lambda: None, dict)
        )
        scope: Scope = {"type": "http", "headers": []}
        body: Message = {"type": "http.request", "body": b"{}"}
        messages = iter([body])

        async def receive() -> Message:
            return next(messages, None) or await stay_connected()

        async def send(message: Message) -> None:
            raise AssertionError(message)

        async with short_deadline.admission.slot("another", 1):
            with pytest.raises(ApiError) as ended:
                await short_deadline.compute(scope, receive, send, "tokenize", bytes)
        assert (ended.value.status, ended.value.code) == (504, "deadline_exceeded")
        assert short_deadline.admission.waiting == short_deadline.bodies.held == len(short_deadline.active) == 0

    asyncio.run(scenario())
