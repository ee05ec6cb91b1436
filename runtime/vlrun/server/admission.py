"""A bounded queue for the model that is fair between clients.

Up to ``limits.parallel`` answers are generated at once. The next slot goes to the client with the fewest running
answers, and among these to the one whose last turn was longest ago: a client with a hundred requests delays another by
one answer. When the queue is full, a new request is refused, unless another client has at least two more waiting: then
that client's newest one is refused instead, if it has not waited for ``SETTLED_SECONDS`` yet. Runs in one event loop.
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

INITIAL_SECONDS = 2.0
"""Assumed duration of an answer before one was measured."""
SMOOTHING = 0.9
"""Weight of the past in the mean duration of an answer."""
MAX_RETRY_AFTER = 60
SETTLED_SECONDS = 5.0
"""Waiting time after which a request keeps its place: its stream begins then, and cannot become a 429 any more."""


@dataclass(eq=False)
class _Waiter:
    client: str
    weight: int
    turn: asyncio.Future[None]
    arrived: float = field(default_factory=time.monotonic)


@dataclass
class _Client:
    """A client with requests. ``since``: the number of its last turn, or of its arrival."""

    since: int
    running: int = 0
    waiting: list[_Waiter] = field(default_factory=list)


class Admission:
    """The queue. ``waiting`` counts requests, ``running`` answers."""

    def __init__(self, limits: ServerLimits) -> None:
        self._parallel = limits.parallel
        self._queue = limits.queue
        self._clients: dict[str, _Client] = {}
        self._numbers = itertools.count(1)
        self._mean = INITIAL_SECONDS
        self.waiting = 0
        self.running = 0

    @property
    def clients(self) -> int:
        """Clients with requests."""
        return len(self._clients)

    @asynccontextmanager
    async def slot(self, client: str, weight: int, brief: bool = False) -> AsyncIterator[None]:
        """Wait for the turn of a request with ``weight`` answers, and hold it for the block. ``brief`` work does not
        count for the mean duration. Raises ApiError 429 if the queue is full.
        """
        weight = min(weight, self._parallel)
        await self._wait(client, weight)
        started = time.monotonic()
        try:
            yield
        finally:
            if not brief:
                self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * (time.monotonic() - started)
            self._release(client, weight)

    def retry_after(self) -> int:
        """Seconds until a place is probably free."""
        rounds = (self.waiting + self.running) / self._parallel
        return min(max(math.ceil(rounds * self._mean), 1), MAX_RETRY_AFTER)

    async def _wait(self, name: str, weight: int) -> None:
        waiter = _Waiter(name, weight, asyncio.get_running_loop().create_future())
        if self.waiting >= self._queue and (self.waiting or self.running + weight > self._parallel):
            self._evict_for(name)
        self._clients.setdefault(name, _Client(next(self._numbers))).waiting.append(waiter)
        self.waiting += 1
        self._give_turns()
        try:
            await waiter.turn
        except BaseException:
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """A waiter gives up; if it has just got its turn, that goes to the next one."""
        client = self._clients.get(waiter.client)
        if client is None:  # it was refused, and its client has no other requests
            return
        given = waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None
        if waiter in client.waiting:
            client.waiting.remove(waiter)
            self.waiting -= 1
        self._release(waiter.client, waiter.weight if given else 0)

    def _release(self, name: str, weight: int) -> None:
        client = self._clients[name]
        client.running -= weight
        self.running -= weight
        if not client.running and not client.waiting:
            del self._clients[name]
        self._give_turns()

    def _evict_for(self, name: str) -> None:
        """Refuse the newest request of the client with the most of them, or raise ApiError."""
        error = ApiError(429, "too many requests are waiting: try again later", "busy", retry_after=self.retry_after())
        largest = max(self._clients.values(), key=lambda client: len(client.waiting))
        own = len(self._clients[name].waiting) if name in self._clients else 0
        newest = largest.waiting[-1] if len(largest.waiting) >= own + 2 else None
        if newest is None or time.monotonic() - newest.arrived >= SETTLED_SECONDS:
            raise error
        largest.waiting.pop()
        self.waiting -= 1
        if not newest.turn.done():  # otherwise it was cancelled
            newest.turn.set_exception(error)

    def _give_turns(self) -> None:
        """Give free slots to waiters. If the next one needs more than is free, all wait: others must not starve it."""
        while self.waiting:
            client = min(
                (client for client in self._clients.values() if client.waiting),
                key=lambda client: (client.running, client.since),
            )
            waiter = client.waiting[0]
            if self.running + waiter.weight > self._parallel:
                return
            client.waiting.pop(0)
            self.waiting -= 1
            if waiter.turn.done():  # it was cancelled
                continue
            client.running += waiter.weight
            client.since = next(self._numbers)
            self.running += waiter.weight
            waiter.turn.set_result(None)
