"""Monitors a service from outside: its process, its gauges, and whether all resources are free at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from benchmarks.load.http_client import KeepAliveClient, request
from benchmarks.load.service_process import HOST, MIB, ProcessStats, ServiceProcess, process_stats

IDLE_GAUGES = (
    "vlrun_requests_waiting",
    "vlrun_answers_running",
    "vlrun_body_bytes",
    "vlrun_engine_running",
    "vlrun_engine_waiting",
    "vlrun_kv_cache_held_bytes",
)
"""Gauges that are 0 when the service is idle."""
CONNECTIONS = "vlrun_connections"
MAX_IDLE_WAIT = 30.0
"""Seconds that the service may take to become idle: as long as it keeps an idle connection."""


@dataclass(frozen=True)
class ServiceSample:
    """A measurement. ``at``: by ``time.monotonic``; ``requests``: how many had ended; ``values``: of /metrics."""

    at: float
    pid: int
    requests: int
    process_stats: ProcessStats
    values: dict[str, float]

    @property
    def cached(self) -> float:
        """MiB of cached image features, without the KV cache, which has a fixed size."""
        return self.values.get("vlrun_feature_cache_bytes", 0.0) / MIB

    @property
    def held(self) -> dict[str, float]:
        """Resources in use: gauges that are not 0, and connections other than the monitor's own."""
        found = {name: self.values.get(name, 0.0) for name in IDLE_GAUGES}
        found[CONNECTIONS] = self.values.get(CONNECTIONS, 1.0) - 1
        return {name: value for name, value in found.items() if value}


class ServiceMonitor:
    """Samples a service every ``seconds``. ``requests``: returns how many requests have ended."""

    def __init__(self, service: ServiceProcess, requests: Callable[[], int], seconds: float) -> None:
        self.samples: list[ServiceSample] = []
        self._service = service
        self._requests = requests
        self._seconds = seconds

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sample the service while the block runs."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            with suppress(OSError, EOFError):  # it may just have been killed
                self.samples.append(await self.sample())
            await asyncio.sleep(self._seconds)

    async def sample(self) -> ServiceSample:
        """Take one sample over a new connection. Raises OSError and EOFError."""
        client = KeepAliveClient(self._service.address, HOST)
        try:
            _, text = await client.ask(request(self._service.address, "/metrics"))
            pid = self._service.pid
            return ServiceSample(
                time.monotonic(), pid, self._requests(), process_stats(pid), parse_metrics(text.decode())
            )
        finally:
            client.abort()

    async def wait_until_idle(self) -> ServiceSample:
        """Return a sample of the idle service, or the last one after MAX_IDLE_WAIT seconds."""
        deadline = time.monotonic() + MAX_IDLE_WAIT
        sample = await self.sample()
        while sample.held and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            sample = await self.sample()
        return sample


def parse_metrics(text: str) -> dict[str, float]:
    """Parse Prometheus' text format: values by name, including the labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines if name}


def last_half(samples: Sequence[ServiceSample]) -> list[ServiceSample]:
    """The second half, in time, of the last process's samples."""
    own = [sample for sample in samples if sample.pid == samples[-1].pid]
    middle = (own[0].at + own[-1].at) / 2 if own else 0.0
    return [sample for sample in own if sample.at >= middle]
