"""Clients, each with an address of its own: they ask, wait, come again when they are told to, and often leave.

Knows connections and what became of each request; what is asked comes out of a ``Mixture``.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from benchmarks.load.questions import Mixture, Question
from benchmarks.load.wire import Address, Caller, Head, request

LEAVING = 0.35
"""The part of all requests whose client means to leave, half of them before the first byte of the answer, half later.
Some are answered before that: 0.3 of all are left.
"""
PIECES = (1, 1, 2, 4, 8)
"""Of a stream, after which a client leaves, if it is one that does."""
FIRST_GUESS, MEMORY = 0.5, 0.8
"""Seconds of an answer before one was seen, and how much of the mean each leaves as it was: who leaves a whole answer
does so within that time."""
LONGEST = 330.0
"""Seconds that the others wait: the service's deadline, and some."""
TRIES = 100
"""How often a client comes again after 429."""

End: TypeAlias = Literal["answered", "refused", "busy", "left", "lost", "failed"]
"""How a request ended: rightly answered; refused, being wrong; told to come again; left by its client; lost with a
process that was killed; anything else.
"""
_TIMINGS = re.compile(rb'"timings":(\{[^{}]*\})')
_SAID = re.compile(rb'"content":"[^"]')


@dataclass(frozen=True)
class Outcome:
    """One request. Moments by ``time.monotonic``; ``first``: seconds to the first text of a stream; ``ttft``: the same
    from its turn on, as the service tells it; ``waited``: seconds that the service took beside making the answer;
    ``patience``: seconds since it was asked for the first time.
    """

    client: str
    name: str
    end: End
    began: float
    ended: float
    status: int = 0
    fault: str = ""
    first: float | None = None
    ttft: float | None = None
    waited: float | None = None
    patience: float = 0.0


@dataclass
class Reply:
    """An answer as it comes in. ``begun``: whether anything of it was there; ``first``: when its first text was."""

    head: Head | None = None
    body: bytearray = field(default_factory=bytearray)
    first: float | None = None


class Left(Exception):
    """The client has gone."""


@dataclass(frozen=True)
class Leaving:
    """How a client leaves: after a part of its request was sent; or after so many seconds or pieces of the answer."""

    sent: float = 1.0
    seconds: float = 0.0
    pieces: int = 0


class Killed:
    """Told when the service is killed: whatever is on its way then is lost with it."""

    def __init__(self) -> None:
        self.at: float | None = None

    def covers(self, began: float) -> bool:
        """Whether a request that has just failed was on its way when it happened."""
        return self.at is not None and began <= self.at


class Client:
    """One of many. ``record``: called with each outcome; ``leaving``: the part of its requests that it will leave."""

    def __init__(
        self, address: Address, source: str, mixture: Mixture, killed: Killed, record: Callable[[Outcome], None]
    ) -> None:
        self.source = source
        self.asking = False
        self.leaving = LEAVING
        self._address = address
        self._caller = Caller(address, source)
        self._mixture = mixture
        self._killed = killed
        self._record = record
        self._draw = random.Random(source)
        self._usual = FIRST_GUESS

    async def run(self, further: Callable[[], bool]) -> None:
        """Ask until there is no ``further`` request to make, then hang up."""
        try:
            while further():
                await self._ask(self._mixture.next(), further)
        finally:
            self._caller.leave()

    async def _ask(self, question: Question, further: Callable[[], bool]) -> None:
        leaving, began = self._leaving(question), time.monotonic()
        for _ in range(TRIES):
            self.asking = True
            outcome, pause = await self._try(question, leaving)
            self.asking = False
            self._record(replace(outcome, patience=outcome.ended - began))
            if outcome.end == "answered":
                self._usual = MEMORY * self._usual + (1 - MEMORY) * (outcome.ended - outcome.began)
            if outcome.end != "busy":
                return
            await asyncio.sleep(pause)
            if not further():
                return

    def _leaving(self, question: Question) -> Leaving | None:
        if self._draw.random() >= self.leaving:
            return None
        if self._draw.random() < 0.5:
            return Leaving(sent=self._draw.choice((0.5, 1.0)))
        if question.stream:
            return Leaving(pieces=self._draw.choice(PIECES))
        return Leaving(seconds=max(self._draw.uniform(0, self._usual), 0.001))

    async def _try(self, question: Question, leaving: Leaving | None) -> tuple[Outcome, float]:
        """One request and what became of it; if it is to come again, after how many seconds."""
        began, reply = time.monotonic(), Reply()
        end: End = "failed"
        fault = ""
        try:
            await self._exchange(question, leaving, reply)
            end, fault = _judged(question, reply)
        except Left:
            end = "left"
        except (OSError, EOFError) as error:
            self._caller.leave()
            if self._killed.covers(began):
                end = "lost"
            else:
                fault = f"{type(error).__name__} after {time.monotonic() - began:.1f} s"
        return self._outcome(question, reply, began, (end, fault)), _pause(reply)

    def _outcome(self, question: Question, reply: Reply, began: float, how: tuple[End, str]) -> Outcome:
        ended = time.monotonic()
        told = _TIMINGS.findall(reply.body) if how[0] == "answered" else []
        timings = [json.loads(one) for one in told]
        return Outcome(
            self.source,
            question.name,
            how[0],
            began,
            ended,
            reply.head.status if reply.head else 0,
            how[1],
            first=reply.first - began if reply.first else None,
            ttft=max((one["ttft"] for one in timings), default=None),
            waited=ended - began - max(one["total"] for one in timings) if timings else None,
        )

    async def _exchange(self, question: Question, leaving: Leaving | None, reply: Reply) -> None:
        """Send and receive. Raises Left, OSError and EOFError."""
        raw = request(self._address, question.path, question.body, question.kind)
        if leaving and not (leaving.seconds or leaving.pieces):
            link = await self._caller.connected()
            await link.send(raw[: round(leaving.sent * len(raw))])
            await asyncio.sleep(0)  # the service may have seen it, or not
            self._caller.leave()
            raise Left
        try:
            async with asyncio.timeout(leaving.seconds if leaving and leaving.seconds else LONGEST):
                await self._received(raw, leaving, reply)
        except TimeoutError:
            self._caller.leave()
            if leaving and leaving.seconds:
                raise Left from None
            raise

    async def _received(self, raw: bytes, leaving: Leaving | None, reply: Reply) -> None:
        began, count = time.monotonic(), 0
        link, reply.head = await self._caller.begin(raw, lambda: self._killed.covers(began))

        async for piece in link.pieces(reply.head):
            reply.body += piece
            count += 1
            if reply.first is None and reply.head.stream and _SAID.search(piece):
                reply.first = time.monotonic()
            if leaving and leaving.pieces and count >= leaving.pieces and reply.head.status == 200:
                self._caller.leave()
                raise Left


def _judged(question: Question, reply: Reply) -> tuple[End, str]:
    """How a request ended that got its whole answer, and what was wrong with that."""
    if reply.head is None:
        return "failed", "no answer"
    if reply.head.status == 429 and reply.head.retry_after:
        return "busy", ""
    body = bytes(reply.body)
    if reply.head.status != question.status:
        return "failed", f"{reply.head.status} in place of {question.status}: {body[:200].decode(errors='replace')}"
    try:
        fault = question.check(body)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        fault = f"the answer cannot be read: {error!r}"
    if fault:
        return "failed", fault
    return ("answered" if question.status == 200 else "refused"), ""


def _pause(reply: Reply) -> float:
    return (reply.head.retry_after if reply.head else None) or 0.0
