"""What the service looks like from outside while it works: its process, its gauges, and whether all is free at the end.

Knows /proc and /metrics; does not know what is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from benchmarks.load.serving import HOST, MIB, Serving, Vitals, vitals
from benchmarks.load.wire import Caller, request

HELD = (
    "vlrun_requests_waiting",
    "vlrun_answers_running",
    "vlrun_body_bytes",
    "vlrun_engine_running",
    "vlrun_engine_waiting",
    "vlrun_kv_cache_held_bytes",
)
"""Gauges that are 0 when nobody wants anything."""
CONNECTIONS = "vlrun_connections"
QUIET_SECONDS = 30.0
"""That the service has to come to rest: as long as it keeps an idle connection."""


@dataclass(frozen=True)
class Sample:
    """One look. ``at``: by ``time.monotonic``; ``requests``: how many had ended by then; ``values``: of /metrics."""

    at: float
    pid: int
    requests: int
    vitals: Vitals
    values: dict[str, float]

    @property
    def cached(self) -> float:
        """MiB that the service says it keeps of images; the KV cache is not among them, it has its room."""
        return self.values.get("vlrun_feature_cache_bytes", 0.0) / MIB

    @property
    def held(self) -> dict[str, float]:
        """What is not free: gauges that are not 0, and connections beside our own."""
        found = {name: self.values.get(name, 0.0) for name in HELD}
        found[CONNECTIONS] = self.values.get(CONNECTIONS, 1.0) - 1
        return {name: value for name, value in found.items() if value}


class Watch:
    """Looks at a service every ``seconds``. ``requests``: tells how many have ended; ``samples``: what was seen."""

    def __init__(self, serving: Serving, requests: Callable[[], int], seconds: float) -> None:
        self.samples: list[Sample] = []
        self._serving = serving
        self._requests = requests
        self._seconds = seconds

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Look again and again while the block runs."""
        looking = asyncio.create_task(self._run())
        try:
            yield
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    async def _run(self) -> None:
        while True:
            with suppress(OSError, EOFError):  # it may just have been killed
                self.samples.append(await self.look())
            await asyncio.sleep(self._seconds)

    async def look(self) -> Sample:
        """Once, over a connection of its own. Raises OSError and EOFError."""
        caller = Caller(self._serving.address, HOST)
        try:
            _, told = await caller.ask(request(self._serving.address, "/metrics"))
            pid = self._serving.pid
            return Sample(time.monotonic(), pid, self._requests(), vitals(pid), values(told.decode()))
        finally:
            caller.leave()

    async def quiet(self) -> Sample:
        """Once nothing is held any more, or after QUIET_SECONDS: then the sample says what is."""
        until = time.monotonic() + QUIET_SECONDS
        sample = await self.look()
        while sample.held and time.monotonic() < until:
            await asyncio.sleep(0.1)
            sample = await self.look()
        return sample


def values(told: str) -> dict[str, float]:
    """Prometheus' text format: values by names, with their labels as they are written."""
    lines = (line.rpartition(" ") for line in told.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines if name}


def last_half(samples: Sequence[Sample]) -> list[Sample]:
    """The last half in time of the life of the process that was seen last."""
    own = [sample for sample in samples if sample.pid == samples[-1].pid]
    middle = (own[0].at + own[-1].at) / 2 if own else 0.0
    return [sample for sample in own if sample.at >= middle]
