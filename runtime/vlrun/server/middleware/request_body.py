"""Bodies of requests, read whole: each within its size and its time, all together within a budget.

Knows ASGI's ``receive`` and the framing headers; does not know what a body says.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive, Scope

from vlrun.errors import AnswerCancelled
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import MIB, ServerLimits

STEP = MIB // 4
"""Bytes by which a body takes from the budget, as they come: a length that is only promised takes nothing."""
CLOSE = (("connection", "close"),)
"""With each answer to a request whose body was not read, or its rest would be taken for the next request."""


class BodyBudget:
    """Bytes of all bodies that are held at once. For one event loop; not for threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes that are taken now."""
        return self._held

    def take(self, count: int) -> None:
        """Take ``count`` bytes; raises ApiError (429) if that many are not left."""
        if self._held + count > self._most:
            raise ApiError(429, "too many requests are being read", "busy", retry_after=1, headers=CLOSE)
        self._held += count

    def give_back(self, count: int) -> None:
        """Give back what was taken."""
        self._held -= count


@asynccontextmanager
async def hold_body(scope: Scope, receive: Receive, limits: ServerLimits, budget: BodyBudget) -> AsyncIterator[bytes]:
    """The request's body, which counts against the budget until the block is left, however it is left.

    On entering it raises ApiError (400: no valid Content-Length, 408: too slow, 413: too large, 429: no budget), or
    AnswerCancelled if the client leaves.
    """
    share = _Share(limits, budget)
    try:
        yield await _read(scope, receive, share, limits.body_seconds)
    finally:
        budget.give_back(share.bytes)


class _Share:
    """What one body has of the budget, in ``bytes``."""

    def __init__(self, limits: ServerLimits, budget: BodyBudget) -> None:
        self.bytes = 0
        self._promised = 0
        self._limits = limits
        self._budget = budget

    def promise(self, size: int) -> None:
        """So many bytes will come; 0 if nobody knows."""
        self._check(size)
        self._promised = size

    def grow(self, size: int) -> None:
        """Have at least ``size`` bytes: whole steps, but not more than will come."""
        self._check(size)
        if size > self.bytes:
            whole = -(-size // STEP) * STEP
            more = (min(whole, self._promised) if self._promised else whole) - self.bytes
            self._budget.take(more)
            self.bytes += more

    def _check(self, size: int) -> None:
        if size > self._limits.max_body_mib * MIB:
            most = f"the body is larger than {self._limits.max_body_mib} MiB"
            raise ApiError(413, most, "request_too_large", headers=CLOSE)


async def _read(scope: Scope, receive: Receive, share: _Share, seconds: float) -> bytes:
    """BytesIO hands out its own buffer in the end, where a bytearray would have to be copied."""
    share.promise(_promised(scope))
    body = io.BytesIO()
    more = True
    try:
        async with asyncio.timeout(seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise AnswerCancelled("the client left before its request was complete")
                part = message.get("body", b"")
                share.grow(body.tell() + len(part))
                body.write(part)
                more = message.get("more_body", False)
    except TimeoutError:
        raise ApiError(408, "the body did not arrive in time", "request_timeout", headers=CLOSE) from None
    return body.getvalue()


def _promised(scope: Scope) -> int:
    """Content-Length in bytes, 0 for none; raises ApiError (400) for one that is no length."""
    values = [value for name, value in scope["headers"] if name == b"content-length"]
    if not values:
        return 0
    if len(values) > 1 or not values[0].isdigit() or len(values[0]) > 18:
        raise ApiError(400, "the Content-Length is not valid", "malformed_request", headers=CLOSE)
    return int(values[0])
