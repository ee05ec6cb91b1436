"""GuideLLM: a benchmark of a few requests on the command line."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import checks

FOLDER = Path(mkdtemp())
PROGRAM = Path(sys.executable).with_name("guidellm")


def benchmark(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Send each row once, and return the report."""
    data, report = FOLDER / f"{name}.jsonl", FOLDER / f"{name}-report.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        *(PROGRAM, "run", "--disable-console", "--backend", f"kind=openai_http,target={checks.BASE_URL}"),
        *("--data", f"kind=json_file,path={data}", "--output", f"kind=json,path={report}"),
        *("--profile", "kind=synchronous", "--constraint", f"kind=max_requests,count={len(rows)}"),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(done.stdout[-3000:] + done.stderr[-3000:])
    return json.loads(report.read_text())


@functools.cache
def successful(name: str, *prompts: str, **more: str) -> list[dict[str, Any]]:
    """The requests of a benchmark, all of which must succeed."""
    (found,) = benchmark(name, [{"prompt": prompt, **more} for prompt in prompts])["benchmarks"]
    totals = {"successful": len(prompts), "errored": 0, "incomplete": 0, "total": len(prompts)}
    checks.equal(found["metrics"]["request_totals"], totals)
    return found["requests"]["successful"]


def hello() -> list[dict[str, Any]]:
    return successful("text", checks.HELLO, checks.HELLO)


def text() -> None:
    checks.equal([request["output"] for request in hello()], [checks.HELLO_ANSWER] * 2)


def picture() -> None:
    (request,) = successful("picture", checks.HOW_MANY, image=checks.SHELF_URL)
    checks.equal(request["output"], checks.HOW_MANY_ANSWER)


def stream() -> None:
    """It streams by default, and measures the time between the tokens."""
    for request in hello():
        checks.is_true(request["info"]["timings"]["token_iterations"] > 1)
        checks.is_true(request["inter_token_latency_ms"])


checks.run("guidellm", text=text, picture=picture, stream=stream)
