"""Bodies of requests, read whole: each within its size and its time, all together within a budget.

Knows ASGI's ``receive`` and the framing headers; does not know what a body says.
"""

from __future__ import annotations

import asyncio
import io
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from starlette.types import Receive, Scope

from vlrun.errors import AnswerCancelled
from vlrun.service.faults import ApiError
from vlrun.service.limits import MIB, Limits

STEP = 1 * MIB
"""Bytes by which a body of unknown length takes from the budget."""
CLOSE = (("connection", "close"),)
"""With each answer to a request whose body was not read, or its rest would be taken for the next request."""


class BodyBudget:
    """Bytes of all bodies that are held at once. For one event loop; not for threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes that are taken now, promised ones included."""
        return self._held

    def take(self, count: int) -> None:
        """Take ``count`` bytes; raises ApiError (429) if that many are not left."""
        if self._held + count > self._most:
            raise ApiError(429, "too many requests are being read", "busy", retry_after=1, headers=CLOSE)
        self._held += count

    def give_back(self, count: int) -> None:
        """Give back what was taken."""
        self._held -= count


def hold_body(scope: Scope, receive: Receive, limits: Limits, budget: BodyBudget) -> AbstractAsyncContextManager[bytes]:
    """The request's body, which counts against the budget until the block is left, however it is left.

    On entering it raises ApiError (400: no valid Content-Length, 408: too slow, 413: too large, 429: no budget), or
    AnswerCancelled if the client leaves.
    """
    return _HeldBody(scope, receive, limits, budget)


class _HeldBody(AbstractAsyncContextManager[bytes]):
    def __init__(self, scope: Scope, receive: Receive, limits: Limits, budget: BodyBudget) -> None:
        self._scope = scope
        self._receive = receive
        self._limits = limits
        self._budget = budget
        self._taken = 0

    async def __aenter__(self) -> bytes:
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                return await self._read()
        except BaseException as error:
            self._give_back()
            if isinstance(error, TimeoutError):
                raise ApiError(408, "the body did not arrive in time", "request_timeout", headers=CLOSE) from None
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    async def _read(self) -> bytes:
        """BytesIO hands out its own buffer in the end, where a bytearray would have to be copied."""
        self._take(_promised(self._scope), step=1)
        body = io.BytesIO()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise AnswerCancelled("the client left before its request was complete")
            self._take(body.tell() + len(message.get("body", b"")), step=STEP)
            body.write(message.get("body", b""))
            more = message.get("more_body", False)
        return body.getvalue()

    def _take(self, size: int, step: int) -> None:
        """Have at least ``size`` bytes, in whole steps."""
        if size > self._limits.max_body_mib * MIB:
            most = f"the body is larger than {self._limits.max_body_mib} MiB"
            raise ApiError(413, most, "request_too_large", headers=CLOSE)
        if size > self._taken:
            more = -(-(size - self._taken) // step) * step
            self._budget.take(more)
            self._taken += more

    def _give_back(self) -> None:
        self._budget.give_back(self._taken)
        self._taken = 0


def _promised(scope: Scope) -> int:
    """Content-Length in bytes, 0 for none; raises ApiError (400) for one that is no length."""
    values = [value for name, value in scope["headers"] if name == b"content-length"]
    if not values:
        return 0
    if len(values) > 1 or not values[0].isdigit() or len(values[0]) > 18:
        raise ApiError(400, "the Content-Length is not valid", "malformed_request", headers=CLOSE)
    return int(values[0])
