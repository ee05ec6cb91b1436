"""Metrics for Prometheus (text format 0.0.4): requests, answers, the engine and this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vlrun.engine.watchdog import EngineState
from vlrun.types.answer import Answer

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
GAUGES = {
    "requests_waiting": "Requests waiting for their turn.",
    "answers_running": "Answers being generated.",
    "body_bytes": "Bytes of request bodies in memory.",
    "stored_image_bytes": "Bytes of images that clients sent for later requests.",
    "connections": "Open connections.",
    "engine_running": "Sequences that the engine runs.",
    "engine_waiting": "Sequences waiting for KV cache blocks.",
    "engine_stalled_seconds": "Seconds since the engine finished its last step, 0 if it is idle.",
    "kv_cache_bytes": "Size of the KV cache.",
    "kv_cache_held_bytes": "KV cache held by or reserved for running sequences.",
    "kv_cache_cached_blocks": "KV cache blocks that a later prompt can reuse.",
    "feature_cache_bytes": "Image features kept in memory.",
}


class Metrics:
    """The metrics of one service. ``state``: the engine's, None while the model is loading; ``counts``: of requests."""

    def __init__(self, state: Callable[[], EngineState | None], counts: Callable[[], dict[str, float]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_ProcessCollector())
        self._registry.register(_GaugeCollector(state, counts))
        self._requests = self._counter("requests", "Requests by outcome.", "endpoint", "outcome")
        self._responses = self._counter("http_answers", "HTTP answers on all paths by status.", "status")
        self._tokens = self._counter("tokens", "Prompt tokens (of these: image, cached) and completion tokens.", "kind")
        self._hits = self._counter("cache_hits", "Answers whose prompt was in the KV cache, in part.")
        self._ttft = self._histogram("ttft", "Time to first token, from the request's turn on.", SECONDS)
        self._tpot = self._histogram("tpot", "Time per further output token.", TOKEN_SECONDS)
        self._vision = self._histogram("vision", "Encoding of an answer's images.", SECONDS)
        self._prefill = self._histogram("prefill", "Prefill of an answer's prompt.", SECONDS)
        self._queue = self._histogram("queue", "Waiting for a turn.", SECONDS)
        self._request = self._histogram("request", "Whole requests.", SECONDS)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"vlrun_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"vlrun_{name}_seconds", text, registry=self._registry, buckets=buckets)

    def queued(self, seconds: float) -> None:
        """Count a request that got its turn."""
        self._queue.observe(seconds)

    def answered(self, answer: Answer) -> None:
        """Count a complete answer."""
        usage, timings = answer.usage, answer.timings
        self._ttft.observe(timings.ttft)
        self._prefill.observe(timings.prefill)
        if usage.image_tokens:
            self._vision.observe(timings.vision)
        if timings.tpot is not None:
            self._tpot.observe(timings.tpot)
        if usage.cached_tokens:
            self._hits.inc()
        for kind in ("prompt", "image", "cached", "completion"):
            self._tokens.labels(kind).inc(getattr(usage, f"{kind}_tokens"))

    def request_ended(self, endpoint: str, outcome: str, seconds: float) -> None:
        """Count a request by ``ok``, ``left``, or the status of its error."""
        self._requests.labels(endpoint, outcome).inc()
        self._request.observe(seconds)

    def responded(self, status: int) -> None:
        """Count an HTTP answer on any path; 0 for a client that left without one."""
        self._responses.labels(str(status) if status else "none").inc()

    def text(self) -> bytes:
        """All metrics in Prometheus's format."""
        return generate_latest(self._registry)


class _GaugeCollector(Collector):
    """Gauges that are read when Prometheus asks for them."""

    def __init__(self, state: Callable[[], EngineState | None], counts: Callable[[], dict[str, float]]) -> None:
        self._state = state
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        values = self._counts()
        if state := self._state():
            values |= {
                "engine_running": state.running,
                "engine_waiting": state.waiting,
                "engine_stalled_seconds": state.stalled_seconds,
                "kv_cache_bytes": state.blocks * state.block_bytes,
                "kv_cache_held_bytes": (state.blocks - state.free_blocks) * state.block_bytes,
                "kv_cache_cached_blocks": state.cached_blocks,
                "feature_cache_bytes": state.feature_bytes,
            }
        for name, value in values.items():
            yield GaugeMetricFamily(f"vlrun_{name}", GAUGES[name], value=value)


def resident_bytes() -> int | None:
    """Memory of this process; None if it cannot be read."""
    return _process_memory().get("resident")


def _process_memory() -> dict[str, int]:
    with suppress(OSError, ValueError):
        virtual, resident = Path("/proc/self/statm").read_text(encoding="utf-8").split()[:2]
        page = os.sysconf("SC_PAGE_SIZE")
        return {"virtual": int(virtual) * page, "resident": int(resident) * page}
    return {}


class _ProcessCollector(Collector):
    """This process, under Prometheus's usual names. prometheus_client's own collector reports nothing where a sandbox
    hides /proc/stat, as our systemd unit does.
    """

    def collect(self) -> Iterator[Metric]:
        for kind, size in _process_memory().items():
            yield GaugeMetricFamily(f"process_{kind}_memory_bytes", f"{kind.capitalize()} memory.", value=size)
        with suppress(OSError):
            opened = sum(1 for _ in Path("/proc/self/fd").iterdir())
            yield GaugeMetricFamily("process_open_fds", "Open files and sockets.", value=opened)
        yield CounterMetricFamily("process_cpu_seconds", "Processor time.", value=time.process_time())
