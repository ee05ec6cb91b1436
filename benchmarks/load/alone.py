"""The engine without HTTP: answers the jobs that come in on stdin, one JSON object a line, and says how long it took.

    python -m benchmarks.load.alone [MODEL]

A job: ``{"image": base64 or null, "text", "schema": object or null, "max_tokens", "temperature", "seed", "together",
"rounds"}``. Its answer: a list of rounds, ``[seconds, tokens]`` each; in a round so many threads ask the same at once.
The first line of stdout says that the model is there. Knows the public interface of vlrun alone.
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
    """Serve jobs until stdin ends."""
    with vlrun.load(*sys.argv[1:]) as vlm, ThreadPoolExecutor() as threads:
        _tell("ready")
        for line in sys.stdin:
            job = json.loads(line)
            _tell([_round(vlm, threads, job) for _ in range(job["rounds"])])


def _round(vlm: vlrun.VLM, threads: ThreadPoolExecutor, job: Mapping[str, Any]) -> tuple[float, int]:
    options = vlrun.Options(**{name: job[name] for name in ("max_tokens", "temperature", "seed", "schema")})
    encoded = base64.b64decode(job["image"]) if job["image"] else None
    began = time.perf_counter()
    counts = list(threads.map(lambda _: _ask(vlm, encoded, job["text"], options), range(job["together"])))
    return time.perf_counter() - began, sum(counts)


def _ask(vlm: vlrun.VLM, encoded: bytes | None, text: str, options: vlrun.Options) -> int:
    """One answer, from the image's bytes on; its tokens."""
    parts = (text,) if encoded is None else (vlrun.open_image(encoded), text)
    *_, last = vlm.chat([vlrun.Turn("user", parts)], options)
    return last.answer.usage.completion_tokens if last.answer else 0


def _tell(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
