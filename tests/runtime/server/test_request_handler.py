"""Requests that end without an answer: errors, disconnects, deadlines."""

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


def test_an_error_keeps_its_traceback() -> None:
    """The log names the line that failed, not the one that raised the error again."""

    async def broken() -> None:
        raise ValueError("zebra")

    with pytest.raises(ValueError, match="zebra") as caught:
        asyncio.run(handler().run_until_left(stay_connected, broken()))
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "broken"


def test_work_of_a_disconnected_client_ends_before_its_slot_is_free() -> None:
    """The next request must not start while the cancelled work still runs."""
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
    """Row 30 for /v1/tokenize: a request whose slot does not come gets 504."""

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
