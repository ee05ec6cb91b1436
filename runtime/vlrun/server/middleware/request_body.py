"""Request bodies, read whole: each within its size and time, all together within a budget.

Starlette's RequestBodyLimitMiddleware bounds the size of a body, but neither its time nor the memory of all bodies.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Message, Receive, Scope

from vlrun.errors import AnswerCancelled
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import MIB, ServerLimits

STEP = MIB // 4
"""Bytes that a body takes from the budget at a time, as they arrive: an announced length takes nothing."""
CLOSE = (("connection", "close"),)
"""For answers to a request whose body was not read: its rest would be taken for the next request."""


class BodyBudget:
    """Bytes of all bodies that are held at once, and of each client's. For one event loop."""

    def __init__(self, limit: int, client_limit: int) -> None:
        self._limit = limit
        self._client_limit = client_limit
        self._clients: Counter[str] = Counter()
        self.held = 0

    def take(self, count: int, client: str) -> None:
        """Take ``count`` bytes. Raises ApiError (429) if that many are not left."""
        if self.held + count > self._limit or self._clients[client] + count > self._client_limit:
            raise ApiError(429, "too many requests are being read", "busy", retry_after=1, headers=CLOSE)
        self.held += count
        self._clients[client] += count

    def give_back(self, count: int, client: str) -> None:
        """Give back ``count`` bytes."""
        self.held -= count
        self._clients[client] -= count
        if not self._clients[client]:
            del self._clients[client]


@asynccontextmanager
async def hold_body(
    scope: Scope, receive: Receive, limits: ServerLimits, budget: BodyBudget, client: str
) -> AsyncIterator[bytes]:
    """The request's body, which counts against the client's budget until the block is left.

    Raises ApiError (400: no valid Content-Length, 408: too slow, 413: too large, 429: no budget), and AnswerCancelled
    if the client leaves.
    """
    body, taken = io.BytesIO(), 0  # BytesIO gives away its own buffer, a bytearray would be copied
    expected = _content_length(scope)
    _check_size(expected, limits)
    deadline, more = asyncio.get_running_loop().time() + limits.body_seconds, True
    try:
        while more:
            message = await _receive(receive, deadline)
            part, more = message.get("body", b""), message.get("more_body", False)
            size = body.tell() + len(part)
            _check_size(size, limits)
            if size > taken:
                steps = -(-size // STEP) * STEP
                needed = (min(steps, expected) if expected else steps) - taken
                budget.take(needed, client)
                taken += needed
            body.write(part)
        yield body.getvalue()
    finally:
        budget.give_back(taken, client)


async def _receive(receive: Receive, deadline: float) -> Message:
    try:
        async with asyncio.timeout_at(deadline):
            message = await receive()
    except TimeoutError:
        raise ApiError(408, "the body did not arrive in time", "request_timeout", headers=CLOSE) from None
    if message["type"] == "http.disconnect":
        raise AnswerCancelled("the client left before its request was complete")
    return message


def _check_size(size: int, limits: ServerLimits) -> None:
    if size > limits.max_body_mib * MIB:
        message = f"the body is larger than {limits.max_body_mib} MiB"
        raise ApiError(413, message, "request_too_large", headers=CLOSE)


def _content_length(scope: Scope) -> int:
    """Content-Length in bytes, 0 if there is none. Raises ApiError (400) for an invalid one."""
    values = [value for name, value in scope["headers"] if name == b"content-length"]
    if not values:
        return 0
    if len(values) > 1 or not values[0].isdigit() or len(values[0]) > 18:
        raise ApiError(400, "the Content-Length is not valid", "malformed_request", headers=CLOSE)
    return int(values[0])
