"""The soak: many clients for minutes on one service, from the first image to the last connection closed.

Knows the course of events; what came out of it is judged in ``report``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.load.clients import Client, Killed, Outcome
from benchmarks.load.images import Album
from benchmarks.load.questions import Mixture, Question
from benchmarks.load.serving import HOST, Serving
from benchmarks.load.watch import Sample, Watch
from benchmarks.load.wire import Caller, request

FIRST = 2
"""The last byte of the first client's address, 127.0.0.2; ours is 127.0.0.1."""
PARALLEL = 16
"""Requests at once while all is asked for the first time: every thread of the service has to start."""
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Plan:
    """How much: ``clients`` for ``seconds`` or, if that comes first, until they have made ``requests``, about so many
    ``images``. ``kill``: end the service in the middle and start it again; ``trained``: whether its model can count
    bottles; ``every``: seconds between two looks at it.
    """

    clients: int = 32
    seconds: float = 600.0
    requests: int | None = None
    images: int = 36
    kill: bool = False
    trained: bool = True
    seed: int = 5
    every: float = 2.0


@dataclass
class Found:
    """All that was seen. ``before`` and ``after``: the service at rest; ``processor``: seconds that the generator took,
    of ``seconds``; ``in_flight``: requests on their way when the service was killed, ``down``: seconds until it was
    ready again; ``complaints``: what it logged as errors.
    """

    clients: int
    before: Sample
    after: Sample
    outcomes: list[Outcome]
    samples: list[Sample]
    seconds: float
    processor: float
    in_flight: int
    down: float
    complaints: list[str]


@dataclass
class _Visit:
    """All clients on their way."""

    serving: Serving
    plan: Plan
    clients: Sequence[Client]
    outcomes: list[Outcome]
    killed: Killed
    in_flight: int = 0
    down: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def done(self) -> float:
        """Which part of the plan is done; 1 and more is all of it."""
        by_time = (time.monotonic() - self.began) / self.plan.seconds
        return max(by_time, len(self.outcomes) / self.plan.requests) if self.plan.requests else by_time

    async def run(self) -> None:
        """To the end of the last client."""
        async with asyncio.TaskGroup() as group:
            for client in self.clients:
                group.create_task(client.run(lambda: self.done() < 1))
            if self.plan.kill:
                group.create_task(self._kill())

    async def _kill(self) -> None:
        """Once, in the middle."""
        while self.done() < 0.5:
            await asyncio.sleep(POLL_SECONDS)
        self.in_flight = sum(client.asking for client in self.clients)
        began = time.monotonic()
        self.serving.kill()
        self.killed.at = time.monotonic()
        self.serving.restart()
        await asyncio.to_thread(self.serving.wait)
        self.down = time.monotonic() - began


async def soak(serving: Serving, plan: Plan) -> Found:
    """Run it. The service must be ready."""
    album, outcomes, killed = Album(plan.images, plan.seed), list[Outcome](), Killed()
    watch = Watch(serving, lambda: len(outcomes), plan.every)
    await _warm_up(serving, Mixture(album, str(plan.seed), plan.trained).warm_up())
    before = await watch.quiet()

    def client(source: str) -> Client:
        mixture = Mixture(album, f"{plan.seed} {source}", plan.trained)
        return Client(serving.address, source, mixture, killed, outcomes.append)

    clients = [client(f"127.0.0.{FIRST + number}") for number in range(plan.clients)]
    visit = _Visit(serving, plan, clients, outcomes, killed)
    processor = time.process_time()
    async with watch.looking():
        await visit.run()
    seconds, processor = time.monotonic() - visit.began, time.process_time() - processor
    after = await watch.quiet()
    return Found(
        plan.clients,
        before,
        after,
        outcomes,
        watch.samples,
        seconds,
        processor,
        visit.in_flight,
        visit.down,
        serving.complaints(),
    )


async def _warm_up(serving: Serving, questions: Sequence[Question]) -> None:
    """Ask everything once. Raises RuntimeError for an answer that is wrong."""
    waiting = iter(questions)
    await asyncio.gather(*(_ask_all(serving, waiting) for _ in range(PARALLEL)))


async def _ask_all(serving: Serving, questions: Iterator[Question]) -> None:
    caller = Caller(serving.address, HOST)
    try:
        for question in questions:
            raw = request(serving.address, question.path, question.body, question.kind)
            status, body = await caller.ask(raw)
            if fault := question.check(body) if status == question.status else f"status {status}":
                raise RuntimeError(f"{question.name}: {fault}")
    finally:
        caller.leave()
