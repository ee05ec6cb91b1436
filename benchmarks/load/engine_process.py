"""The engine without HTTP: reads jobs from stdin, one JSON object per line, and prints how long each took.

    python -m benchmarks.load.engine_process [MODEL]

A job: ``{"image": base64 or null, "text", "schema": object or null, "max_tokens", "temperature", "seed", "concurrency",
"rounds"}``. Its result: a list of rounds, each ``[seconds, tokens]``; in a round, ``concurrency`` threads ask the same
at once. The first line of stdout, "ready", means that the model is loaded.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import vlrun


def main() -> None:
    """Run jobs until stdin ends."""
    with vlrun.load(*sys.argv[1:]) as vlm, ThreadPoolExecutor() as threads:
        _send("ready")
        for line in sys.stdin:
            job = json.loads(line)
            _send([_round(vlm, threads, job) for _ in range(job["rounds"])])


def _round(vlm: vlrun.VLM, threads: ThreadPoolExecutor, job: Mapping[str, Any]) -> tuple[float, int]:
    options = vlrun.Options(**{name: job[name] for name in ("max_tokens", "temperature", "seed", "schema")})
    encoded = base64.b64decode(job["image"]) if job["image"] else None
    began = time.perf_counter()
    counts = list(threads.map(lambda _: _ask(vlm, encoded, job["text"], options), range(job["concurrency"])))
    return time.perf_counter() - began, sum(counts)


def _ask(vlm: vlrun.VLM, encoded: bytes | None, text: str, options: vlrun.Options) -> int:
    """Ask once, starting from the encoded image; returns the number of tokens."""
    parts = (text,) if encoded is None else (vlrun.open_image(encoded), text)
    *_, last = vlm.chat([vlrun.Turn("user", parts)], options)
    return last.answer.usage.completion_tokens if last.answer else 0


def _send(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
