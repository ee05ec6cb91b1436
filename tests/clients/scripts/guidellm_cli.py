"""GuideLLM: a benchmark of a few requests on the command line."""

from __future__ import annotations

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


def outputs(report: dict[str, Any]) -> list[str]:
    """The answers to the requests that succeeded."""
    (found,) = report["benchmarks"]
    return [request["output"] for request in found["requests"]["successful"]]


def text() -> None:
    checks.equal(outputs(benchmark("text", [{"prompt": checks.HELLO}] * 2)), [checks.HELLO_ANSWER] * 2)


def picture() -> None:
    rows = [{"prompt": checks.HOW_MANY, "image": checks.SHELF_URL}]
    checks.equal(outputs(benchmark("picture", rows)), [checks.HOW_MANY_ANSWER])


checks.run("guidellm", text=text, picture=picture)
