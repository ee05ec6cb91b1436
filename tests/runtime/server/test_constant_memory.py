"""Row 35: memory, files and threads of a service stay constant over hundreds of requests."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from benchmarks.load.http_client import KeepAliveClient, request
from benchmarks.load.images import ImageSet
from benchmarks.load.service_process import HOST, MODEL_NAME, ServiceProcess
from benchmarks.load.soak import SoakPlan, soak

TURNS = 10
MAX_RISE = 0.1
"""MiB per request, over the last two of five rounds."""
PLAN = SoakPlan(clients=12, seconds=120, requests=150, images=10, every=0.1)
OPTIONS = ("--kv-memory", "12")
"""MiB, full after a few requests."""
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""Makes malloc return free memory, so that resident memory shows leaks."""


async def converse(service: ServiceProcess) -> None:
    """Hold a conversation of ten turns, each with an image of another size."""
    client = KeepAliveClient(service.address, HOST)
    messages: list[dict[str, Any]] = []
    for url in ImageSet(2 * TURNS, 3).urls[:TURNS]:
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What do you see?"}]
        messages.append({"role": "user", "content": content})
        body = json.dumps({"model": MODEL_NAME, "messages": messages, "max_tokens": 16}).encode()
        status, result = await client.ask(request(service.address, "/v1/chat/completions", body))
        assert status == 200, result
        messages.append({"role": "assistant", "content": json.loads(result)["choices"][0]["message"]["content"]})
    client.abort()


@pytest.mark.fault(35)
@pytest.mark.slow
def test_memory_files_and_threads_stay_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against leaks of images, bodies, blocks, sockets or threads. Each round sends the same requests, because
    the compile cache grows with every new shape; memory is compared at rest.
    """
    for name, value in ALLOCATOR.items():
        monkeypatch.setenv(name, value)
    with ServiceProcess(OPTIONS) as service:
        asyncio.run(converse(service))
        *_, warm = [asyncio.run(soak(service, PLAN)) for _ in range(3)]
        rounds = [asyncio.run(soak(service, PLAN)) for _ in range(2)]
    outcomes = [outcome for found in rounds for outcome in found.outcomes]
    before, after = warm.after, rounds[-1].after
    assert sum(outcome.end == "left" for outcome in outcomes) > 0.2 * len(outcomes)
    assert not [outcome.fault for outcome in outcomes if outcome.end == "failed"]
    assert (after.process_stats.resident - before.process_stats.resident) / len(outcomes) < MAX_RISE
    assert after.process_stats.threads - before.process_stats.threads <= 1  # a pool may start its last thread late
    assert after.process_stats.files == before.process_stats.files
    assert not after.held
