"""What the service counts and measures, for Prometheus (text format 0.0.4).

Knows answers' figures, the engine's state and this process; does not know requests.
"""

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

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1)


class Metrics:
    """The registry of one service. ``state``: the engine's, None while the model is loading."""

    def __init__(self, state: Callable[[], EngineState | None], queue: Callable[[], dict[str, float]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Process())
        self._registry.register(_Live(state, queue))
        self._requests = Counter(
            "vlrun_requests",
            "Requests by how they ended.",
            ["endpoint", "outcome"],
            registry=self._registry,
        )
        self._statuses = Counter(
            "vlrun_http_answers", "Answers on all paths by status.", ["status"], registry=self._registry
        )
        self._tokens = Counter(
            "vlrun_tokens",
            "Tokens: of prompts, of these visual ones and cached ones, and of answers.",
            ["kind"],
            registry=self._registry,
        )
        self._hits = Counter(
            "vlrun_cache_hits", "Answers whose prompt was found in the KV cache, in part.", registry=self._registry
        )
        self._ttft = self._histogram("ttft", "Time to first token, from the request's turn on.", SECONDS)
        self._tpot = self._histogram("tpot", "Time per further output token.", TOKEN_SECONDS)
        self._vision = self._histogram("vision", "Encoding of an answer's images.", SECONDS)
        self._prefill = self._histogram("prefill", "Prefill of an answer's prompt.", SECONDS)
        self._queue = self._histogram("queue", "Waiting for a turn.", SECONDS)
        self._request = self._histogram("request", "Whole requests.", SECONDS)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"vlrun_{name}_seconds", text, registry=self._registry, buckets=buckets)

    def waited(self, seconds: float) -> None:
        """A request got its turn."""
        self._queue.observe(seconds)

    def answered(self, answer: Answer) -> None:
        """An answer is complete."""
        usage, timings = answer.usage, answer.timings
        self._ttft.observe(timings.ttft)
        self._prefill.observe(timings.prefill)
        if usage.image_tokens:
            self._vision.observe(timings.vision)
        if timings.tpot is not None:
            self._tpot.observe(timings.tpot)
        if usage.cached_tokens:
            self._hits.inc()
        counts = {
            "prompt": usage.prompt_tokens,
            "image": usage.image_tokens,
            "cached": usage.cached_tokens,
            "completion": usage.completion_tokens,
        }
        for kind, count in counts.items():
            self._tokens.labels(kind).inc(count)

    def ended(self, endpoint: str, outcome: str, seconds: float) -> None:
        """A request is over: ``ok``, ``left``, or the status that it got."""
        self._requests.labels(endpoint, outcome).inc()
        self._request.observe(seconds)

    def sent(self, status: int) -> None:
        """A request got its answer, whichever path it was for; 0 if it left without one."""
        self._statuses.labels(str(status) if status else "none").inc()

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)


class _Live(Collector):
    """Gauges that are read when they are asked for."""

    def __init__(self, state: Callable[[], EngineState | None], queue: Callable[[], dict[str, float]]) -> None:
        self._state = state
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        for name, value in self._queue().items():
            yield GaugeMetricFamily(f"vlrun_{name}", _TEXTS[name], value=value)
        state = self._state()
        if state is None:
            return
        held = state.blocks - state.free_blocks
        values = {
            "engine_running": state.running,
            "engine_waiting": state.waiting,
            "engine_still_seconds": state.stalled_seconds,
            "kv_cache_bytes": state.blocks * state.block_bytes,
            "kv_cache_held_bytes": held * state.block_bytes,
            "kv_cache_named_blocks": state.cached_blocks,
            "feature_cache_bytes": state.feature_bytes,
        }
        for name, value in values.items():
            yield GaugeMetricFamily(f"vlrun_{name}", _TEXTS[name], value=value)


class _Process(Collector):
    """This process, under the names that all exporters have. prometheus_client's own collector tells nothing at all
    where a sandbox hides /proc/stat, as our unit's does.
    """

    def collect(self) -> Iterator[Metric]:
        with suppress(OSError, ValueError, IndexError):
            pages = [int(size) for size in Path("/proc/self/statm").read_text(encoding="utf-8").split()[:2]]
            for kind, count in zip(("virtual", "resident"), pages, strict=True):
                name = f"process_{kind}_memory_bytes"
                yield GaugeMetricFamily(name, f"{kind.capitalize()} memory.", value=count * os.sysconf("SC_PAGE_SIZE"))
        with suppress(OSError):
            opened = sum(1 for _ in Path("/proc/self/fd").iterdir())
            yield GaugeMetricFamily("process_open_fds", "Open files and sockets.", value=opened)
        yield CounterMetricFamily("process_cpu_seconds", "Processor time.", value=time.process_time())


_TEXTS = {
    "requests_waiting": "Requests that wait for their turn.",
    "answers_running": "Answers being made.",
    "body_bytes": "Bytes of requests in memory.",
    "connections": "Open connections.",
    "engine_running": "Sequences that the engine runs.",
    "engine_waiting": "Sequences that wait for room in the KV cache.",
    "engine_still_seconds": "Seconds since the engine finished its last step, 0 if it is idle.",
    "kv_cache_bytes": "The KV cache, used or not.",
    "kv_cache_held_bytes": "Its blocks that running sequences hold or were promised.",
    "kv_cache_named_blocks": "Its blocks that a later prompt can find again.",
    "feature_cache_bytes": "Image features kept in memory.",
}
