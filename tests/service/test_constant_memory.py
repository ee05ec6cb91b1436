"""Row 35: a service that has answered hundreds of requests is as large as before, and holds nothing of them."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from typing import Any

import pytest

from vlrun_export.load.figures import slope
from vlrun_export.load.pictures import Album
from vlrun_export.load.serving import HOST, NAME, Serving
from vlrun_export.load.soak import Plan, soak
from vlrun_export.load.watch import last_half
from vlrun_export.load.wire import Caller, request

TURNS = 10
MOST_RISE = 0.1
"""MiB a request."""
PLAN = Plan(clients=12, seconds=120, requests=200, pictures=10, every=0.1)
OPTIONS = ("--kv-memory", "12")
"""MiB, soon full."""
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""Gives back what is free, so that resident memory shows what is not."""


async def converse(serving: Serving) -> None:
    """Ten turns, each with a picture of another size."""
    caller = Caller(serving.address, HOST)
    messages: list[dict[str, Any]] = []
    for url in Album(2 * TURNS, 3).urls[:TURNS]:
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What do you see?"}]
        messages.append({"role": "user", "content": content})
        body = json.dumps({"model": NAME, "messages": messages, "max_tokens": 16}).encode()
        status, told = await caller.ask(request(serving.address, "/v1/chat/completions", body))
        assert status == 200, told
        messages.append({"role": "assistant", "content": json.loads(told)["choices"][0]["message"]["content"]})
    caller.leave()


@pytest.mark.skipif("VLRUN_SOAK" not in os.environ, reason="needs a quiet machine: VLRUN_SOAK=1")
@pytest.mark.slow
def test_memory_files_and_threads_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against whatever is kept of a request: pictures, bodies, blocks, sockets, threads."""
    for name, value in ALLOCATOR.items():
        monkeypatch.setenv(name, value)
    with Serving(OPTIONS) as serving:
        for _ in range(2):  # compilers keep something of each shape, so the same has come before
            asyncio.run(soak(serving, PLAN))
        asyncio.run(converse(serving))
        found = asyncio.run(soak(serving, PLAN))
    ends, half = Counter(outcome.end for outcome in found.outcomes), last_half(found.samples)
    assert ends["left"] > 0.2 * len(found.outcomes)
    assert not [outcome.fault for outcome in found.outcomes if outcome.end == "failed"]
    assert slope([(sample.requests, sample.vitals.resident) for sample in half]) < MOST_RISE
    assert found.after.vitals.threads - found.before.vitals.threads <= 1  # a pool starts its last one when it must
    assert found.after.vitals.files == found.before.vitals.files
    assert not found.after.held
