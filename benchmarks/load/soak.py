"""The soak test: many clients use one service for minutes, until all connections are closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.load.clients import Client, KillEvent, Outcome
from benchmarks.load.http_client import KeepAliveClient, request
from benchmarks.load.images import ImageSet
from benchmarks.load.monitor import ServiceMonitor, ServiceSample
from benchmarks.load.request_mix import CheckedRequest, RequestMix
from benchmarks.load.service_process import HOST, ServiceProcess

FIRST_CLIENT = 2
"""Last byte of the first client's address, 127.0.0.2; the monitor has 127.0.0.1."""
PARALLEL = 16
"""Concurrent requests of the warm-up, so that every thread of the service starts."""
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class SoakPlan:
    """``clients`` run for ``seconds`` or until they have made ``requests``, about ``images`` images.

    ``kill``: kill the service halfway and start it again; ``trained``: whether its model can count bottles; ``every``:
    seconds between two samples of the service.
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
class SoakResult:
    """What a soak measured.

    ``before`` and ``after``: the idle service; ``generator_cpu``: CPU seconds of the clients; ``in_flight``: requests
    in flight when the service was killed; ``down``: seconds until it was ready again; ``log_errors``: in its log.
    """

    clients: int
    before: ServiceSample
    after: ServiceSample
    outcomes: list[Outcome]
    samples: list[ServiceSample]
    seconds: float
    generator_cpu: float
    in_flight: int
    down: float
    log_errors: list[str]


@dataclass
class _SoakRun:
    """The clients of a soak while they run."""

    service: ServiceProcess
    plan: SoakPlan
    clients: Sequence[Client]
    outcomes: list[Outcome]
    kill_event: KillEvent
    in_flight: int = 0
    down: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def done(self) -> float:
        """Completed share of the plan, 1 or more at its end."""
        by_time = (time.monotonic() - self.began) / self.plan.seconds
        return max(by_time, len(self.outcomes) / self.plan.requests) if self.plan.requests else by_time

    async def run(self) -> None:
        """Run all clients to their end."""
        async with asyncio.TaskGroup() as group:
            for client in self.clients:
                group.create_task(client.run(lambda: self.done() < 1))
            if self.plan.kill:
                group.create_task(self._kill())

    async def _kill(self) -> None:
        """Kill the service halfway."""
        while self.done() < 0.5:
            await asyncio.sleep(POLL_SECONDS)
        self.in_flight = sum(client.asking for client in self.clients)
        began = time.monotonic()
        self.service.kill()
        self.kill_event.at = time.monotonic()
        self.service.restart()
        await asyncio.to_thread(self.service.wait)
        self.down = time.monotonic() - began


async def soak(service: ServiceProcess, plan: SoakPlan) -> SoakResult:
    """Run a soak on a service that is ready."""
    images, outcomes, kill_event = ImageSet(plan.images, plan.seed), list[Outcome](), KillEvent()
    monitor = ServiceMonitor(service, lambda: len(outcomes), plan.every)
    await _warm_up(service, RequestMix(images, str(plan.seed), plan.trained).warm_up())
    before = await monitor.wait_until_idle()

    def new_client(source: str) -> Client:
        request_mix = RequestMix(images, f"{plan.seed} {source}", plan.trained)
        return Client(service.address, source, request_mix, kill_event, outcomes.append)

    clients = [new_client(f"127.0.0.{FIRST_CLIENT + number}") for number in range(plan.clients)]
    run = _SoakRun(service, plan, clients, outcomes, kill_event)
    cpu = time.process_time()
    async with monitor.running():
        await run.run()
    seconds, cpu = time.monotonic() - run.began, time.process_time() - cpu
    after = await monitor.wait_until_idle()
    return SoakResult(
        plan.clients,
        before,
        after,
        outcomes,
        monitor.samples,
        seconds,
        cpu,
        run.in_flight,
        run.down,
        service.log_errors(),
    )


async def _warm_up(service: ServiceProcess, requests: Sequence[CheckedRequest]) -> None:
    """Send every request once. Raises RuntimeError for a wrong answer."""
    waiting = iter(requests)
    await asyncio.gather(*(_send_all(service, waiting) for _ in range(PARALLEL)))


async def _send_all(service: ServiceProcess, requests: Iterator[CheckedRequest]) -> None:
    client = KeepAliveClient(service.address, HOST)
    try:
        for checked in requests:
            raw = request(service.address, checked.path, checked.body, checked.content_type)
            status, body = await client.ask(raw)
            if fault := checked.check(body) if status == checked.status else f"status {status}":
                raise RuntimeError(f"{checked.name}: {fault}")
    finally:
        client.abort()
