"""Who may have the model now: a bounded queue that is fair between clients.

As many answers as ``limits.parallel`` are made at once. Whoever comes later waits; the next turn goes to the client
that has the fewest answers running, and among those to the one that waited longest since its last turn, so that one who
asks a hundred things delays another by one answer and no more. When the queue is full, the newcomer is refused, unless
another client holds at least two places more: then its newest one gives way, unless that has waited for so long that it
was promised an answer. Lives in one event loop; knows weights and names of clients, not what they want.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from vlrun.server.api_errors import ApiError
from vlrun.server.limits import ServerLimits

FIRST_GUESS = 2.0
"""Seconds of an answer, before one was seen."""
MEMORY = 0.9
"""How much of the mean duration an answer leaves as it was."""
MAX_RETRY_AFTER = 60
SETTLED_SECONDS = 5.0
"""After which whoever waits does not give way any more: by then all that could be told as a status was told."""


@dataclass(eq=False)
class _Waiter:
    client: str
    weight: int
    turn: asyncio.Future[None]
    number: int
    came: float = field(default_factory=time.monotonic)

    @property
    def settled(self) -> bool:
        """It has waited for too long to be sent away."""
        return time.monotonic() - self.came >= SETTLED_SECONDS


@dataclass
class _Client:
    """A client that has something here. ``since``: the number of its last turn, or of its arrival."""

    since: int
    running: int = 0
    waiting: list[_Waiter] = field(default_factory=list)


class Admission:
    """The queue. ``waiting`` and ``running`` count requests and answers."""

    def __init__(self, limits: ServerLimits) -> None:
        self._parallel = limits.parallel
        self._queue = limits.queue
        self._clients: dict[str, _Client] = {}
        self._numbers = itertools.count(1)
        self._mean = FIRST_GUESS
        self.waiting = 0
        self.running = 0

    @asynccontextmanager
    async def turn(self, client: str, weight: int, brief: bool = False) -> AsyncIterator[None]:
        """Wait for the turn of one request that needs ``weight`` answers at once; they are taken back at the end.
        ``brief``: it is no answer, and tells nothing about how long one takes.

        Raises ApiError 429 if the queue is full.
        """
        weight = min(weight, self._parallel)
        await self._wait(client, weight)
        began = time.monotonic()
        try:
            yield
        finally:
            if not brief:
                self._mean = MEMORY * self._mean + (1 - MEMORY) * (time.monotonic() - began)
            self.running -= weight
            self._clients[client].running -= weight
            self._forget(client)
            self._next()

    def retry_after(self) -> int:
        """Seconds until a place is likely to be free."""
        rounds = (self.waiting + self.running) / self._parallel
        return min(max(math.ceil(rounds * self._mean), 1), MAX_RETRY_AFTER)

    async def _wait(self, client: str, weight: int) -> None:
        waiter = _Waiter(client, weight, asyncio.get_running_loop().create_future(), next(self._numbers))
        if self.waiting >= self._queue and (self.waiting or self.running + weight > self._parallel):
            self._make_room(client)
        self._clients.setdefault(client, _Client(waiter.number)).waiting.append(waiter)
        self.waiting += 1
        self._next()
        try:
            await waiter.turn
        except BaseException:
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """It waits no more; if it has just got its turn, that goes to the next one."""
        client = self._clients.get(waiter.client)
        if client is None:  # it gave way or was passed over, and its client has nothing here any more
            return
        if waiter in client.waiting:
            client.waiting.remove(waiter)
            self.waiting -= 1
        elif waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
            client.running -= waiter.weight
            self.running -= waiter.weight
        self._forget(waiter.client)
        self._next()

    def _make_room(self, client: str) -> None:
        """Have the newest request of the client with the most of them give way, or raise ApiError."""
        greediest = max(self._clients.values(), key=lambda other: len(other.waiting))
        own = len(self._clients[client].waiting) if client in self._clients else 0
        if len(greediest.waiting) < own + 2 or greediest.waiting[-1].settled:
            raise self._busy()
        refused = greediest.waiting.pop()
        self.waiting -= 1
        if not refused.turn.done():  # cancelled, and about to be told so
            refused.turn.set_exception(self._busy())

    def _busy(self) -> ApiError:
        return ApiError(429, "too many requests wait already: try again later", "busy", retry_after=self.retry_after())

    def _next(self) -> None:
        """Give out what is free. One that needs more than that is waited for: others must not starve it."""
        while self.waiting:
            name = min(
                (name for name, client in self._clients.items() if client.waiting),
                key=lambda name: (self._clients[name].running, self._clients[name].since),
            )
            client = self._clients[name]
            waiter = client.waiting[0]
            if self.running + waiter.weight > self._parallel:
                return
            client.waiting.pop(0)
            self.waiting -= 1
            if waiter.turn.done():  # cancelled, and about to be told so
                continue
            client.running += waiter.weight
            client.since = next(self._numbers)
            self.running += waiter.weight
            waiter.turn.set_result(None)

    def _forget(self, name: str) -> None:
        client = self._clients.get(name)
        if client and not client.running and not client.waiting:
            del self._clients[name]
