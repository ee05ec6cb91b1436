"""Simulated clients with an address each: they send requests, wait, retry after 429 and often disconnect early."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from benchmarks.load.http_client import Address, KeepAliveClient, ResponseHead, request
from benchmarks.load.request_mix import CheckedRequest, RequestMix

LEAVE_SHARE = 0.35
"""Share of requests that the client plans to leave, half of them before the first byte of the answer, half later.

Some are answered before that: about 0.3 of all requests are left.
"""
LEAVE_AFTER_CHUNKS = (1, 1, 2, 4, 8)
"""Chunks of a stream after which a client leaves."""
INITIAL_ESTIMATE, SMOOTHING = 0.5, 0.8
"""Initial estimate of the seconds of an answer, and the weight that the running mean keeps at each new one.

A client that leaves a whole answer does so within that time.
"""
MAX_SECONDS = 330.0
"""Timeout of an answer in seconds: a little more than the service's deadline."""
MAX_TRIES = 100
"""Attempts after 429."""

RequestEnd: TypeAlias = Literal["answered", "refused", "busy", "left", "lost", "failed"]
"""How a request ended.

answered: rightly; refused: rightly, because it was wrong; busy: 429 with Retry-After; left: by its client; lost: with
the killed process; failed: anything else.
"""
_TIMINGS = re.compile(rb'"timings":(\{[^{}]*\})')
_CONTENT = re.compile(rb'"content":"[^"]')


@dataclass(frozen=True)
class Outcome:
    """The outcome of one request.

    ``began`` and ``ended``: by ``time.monotonic``; ``first``: seconds to the first text of a stream; ``ttft``: the same
    as the service reports it, without queueing; ``waited``: seconds besides those that the service reports for the
    answer; ``total_wait``: seconds since the first attempt.
    """

    client: str
    name: str
    end: RequestEnd
    began: float
    ended: float
    status: int = 0
    fault: str = ""
    first: float | None = None
    ttft: float | None = None
    waited: float | None = None
    total_wait: float = 0.0


@dataclass
class Response:
    """A response as it arrives. ``first``: when its first text arrived."""

    head: ResponseHead | None = None
    body: bytearray = field(default_factory=bytearray)
    first: float | None = None


class ClientLeft(Exception):
    """The client has left."""


@dataclass(frozen=True)
class LeavePlan:
    """When a client leaves: after sending a part of its request, or after some seconds or chunks of the answer."""

    sent: float = 1.0
    seconds: float = 0.0
    chunks: int = 0


class KillEvent:
    """The moment at which the service was killed; requests in flight at that moment are lost."""

    def __init__(self) -> None:
        self.at: float | None = None

    def covers(self, began: float) -> bool:
        """Whether a request that has just failed was in flight at the kill."""
        return self.at is not None and began <= self.at


class Client:
    """A simulated client. ``record``: called with each outcome; ``leave_share``: share of requests that it plans to
    leave.
    """

    def __init__(
        self,
        address: Address,
        source: str,
        request_mix: RequestMix,
        kill_event: KillEvent,
        record: Callable[[Outcome], None],
    ) -> None:
        self.source = source
        self.asking = False
        self.leave_share = LEAVE_SHARE
        self._address = address
        self._client = KeepAliveClient(address, source)
        self._request_mix = request_mix
        self._kill_event = kill_event
        self._record = record
        self._draw = random.Random(source)
        self._mean_seconds = INITIAL_ESTIMATE

    async def run(self, more: Callable[[], bool]) -> None:
        """Send requests while ``more()`` is true, then close the connection."""
        try:
            while more():
                await self._ask(self._request_mix.next(), more)
        finally:
            self._client.abort()

    async def _ask(self, checked: CheckedRequest, more: Callable[[], bool]) -> None:
        leave_plan, began = self._plan_to_leave(checked), time.monotonic()
        for _ in range(MAX_TRIES):
            self.asking = True
            outcome, pause = await self._try(checked, leave_plan)
            self.asking = False
            self._record(replace(outcome, total_wait=outcome.ended - began))
            if outcome.end == "answered":
                self._mean_seconds = SMOOTHING * self._mean_seconds + (1 - SMOOTHING) * (outcome.ended - outcome.began)
            if outcome.end != "busy":
                return
            await asyncio.sleep(pause)
            if not more():
                return

    def _plan_to_leave(self, checked: CheckedRequest) -> LeavePlan | None:
        if self._draw.random() >= self.leave_share:
            return None
        if self._draw.random() < 0.5:
            return LeavePlan(sent=self._draw.choice((0.5, 1.0)))
        if checked.stream:
            return LeavePlan(chunks=self._draw.choice(LEAVE_AFTER_CHUNKS))
        return LeavePlan(seconds=max(self._draw.uniform(0, self._mean_seconds), 0.001))

    async def _try(self, checked: CheckedRequest, leave_plan: LeavePlan | None) -> tuple[Outcome, float]:
        """Make one attempt; returns its outcome, and the seconds to wait if it is to be repeated."""
        began, response = time.monotonic(), Response()
        end: RequestEnd = "failed"
        fault = ""
        try:
            await self._exchange(checked, leave_plan, response)
            end, fault = _check_response(checked, response)
        except ClientLeft:
            end = "left"
        except (OSError, EOFError) as error:
            self._client.abort()
            if self._kill_event.covers(began):
                end = "lost"
            else:
                fault = f"{type(error).__name__} after {time.monotonic() - began:.1f} s"
        return self._outcome(checked, response, began, (end, fault)), _pause(response)

    def _outcome(
        self, checked: CheckedRequest, response: Response, began: float, ending: tuple[RequestEnd, str]
    ) -> Outcome:
        ended = time.monotonic()
        found = _TIMINGS.findall(response.body) if ending[0] == "answered" else []
        timings = [json.loads(one) for one in found]
        return Outcome(
            self.source,
            checked.name,
            ending[0],
            began,
            ended,
            response.head.status if response.head else 0,
            ending[1],
            first=response.first - began if response.first else None,
            ttft=max((one["ttft"] for one in timings), default=None),
            waited=ended - began - max(one["total"] for one in timings) if timings else None,
        )

    async def _exchange(self, checked: CheckedRequest, leave_plan: LeavePlan | None, response: Response) -> None:
        """Send the request and receive the response. Raises ClientLeft, OSError and EOFError."""
        raw = request(self._address, checked.path, checked.body, checked.content_type)
        if leave_plan and not (leave_plan.seconds or leave_plan.chunks):
            connection = await self._client.connected()
            await connection.send(raw[: round(leave_plan.sent * len(raw))])
            await asyncio.sleep(0)  # the service may or may not have received it
            self._client.abort()
            raise ClientLeft
        try:
            async with asyncio.timeout(leave_plan.seconds if leave_plan and leave_plan.seconds else MAX_SECONDS):
                await self._receive(raw, leave_plan, response)
        except TimeoutError:
            self._client.abort()
            if leave_plan and leave_plan.seconds:
                raise ClientLeft from None
            raise

    async def _receive(self, raw: bytes, leave_plan: LeavePlan | None, response: Response) -> None:
        began, count = time.monotonic(), 0
        connection, response.head = await self._client.send_request(raw, lambda: self._kill_event.covers(began))

        async for chunk in connection.chunks(response.head):
            response.body += chunk
            count += 1
            if response.first is None and response.head.stream and _CONTENT.search(chunk):
                response.first = time.monotonic()
            if leave_plan and leave_plan.chunks and count >= leave_plan.chunks and response.head.status == 200:
                self._client.abort()
                raise ClientLeft


def _check_response(checked: CheckedRequest, response: Response) -> tuple[RequestEnd, str]:
    """Check a complete response; returns how the request ended, and what is wrong."""
    if response.head is None:
        return "failed", "no answer"
    if response.head.status == 429 and response.head.retry_after:
        return "busy", ""
    body = bytes(response.body)
    if response.head.status != checked.status:
        return "failed", f"{response.head.status} in place of {checked.status}: {body[:200].decode(errors='replace')}"
    try:
        fault = checked.check(body)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        fault = f"the answer cannot be parsed: {error!r}"
    if fault:
        return "failed", fault
    return ("answered" if checked.status == 200 else "refused"), ""


def _pause(response: Response) -> float:
    return (response.head.retry_after if response.head else None) or 0.0
