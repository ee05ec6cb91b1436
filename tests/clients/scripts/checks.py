"""What the scripts of all Python clients share: the service, questions with their right answers, and the report.

Usage of each script: BASE_URL EXAMPLES. It prints JSON lines: first the version of the client, then a line per check.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

BASE_URL = sys.argv[1]
API = f"{BASE_URL}/v1"
KEY = "none-is-needed"
MODEL = "vlrun-tiny"

SHELF = Path(sys.argv[2]) / "shelf.png"
SHELF_BASE64 = base64.b64encode(SHELF.read_bytes()).decode()
SHELF_URL = f"data:image/png;base64,{SHELF_BASE64}"

HELLO, HELLO_ANSWER = "Who are you?", "I am the tiny demo model of vlrun. Show me a picture."
HOW_MANY, HOW_MANY_ANSWER = "How many bottles are there?", "6"
COUNT, COUNTS = "Count the bottles and cans.", {"bottles": 6, "cans": 1}
COUNT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"bottles": {"type": "integer"}, "cans": {"type": "integer"}},
    "required": ["bottles", "cans"],
    "additionalProperties": False,
}
COUNT_TOOL = {
    "type": "function",
    "function": {"name": "report_count", "description": "Report the counts.", "parameters": COUNT_SCHEMA},
}


def question(text: str) -> list[dict[str, Any]]:
    """The messages of a question about the shelf, in OpenAI's format and the order of its documentation."""
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": SHELF_URL}}]
    return [{"role": "user", "content": parts}]


def equal(given: Any, right: Any) -> None:
    """Fail with both values unless they are equal."""
    if given != right:
        raise AssertionError(f"{given!r} is not {right!r}")


def is_true(value: Any) -> None:
    """Fail if there is nothing."""
    if not value:
        raise AssertionError(f"there is nothing: {value!r}")


def run(package: str, **checks: Callable[[], Any]) -> None:
    """Run all checks, some of them coroutine functions, and report each."""
    print(json.dumps({"version": importlib.metadata.version(package)}), flush=True)
    for name, check in checks.items():
        error = None
        try:
            if inspect.iscoroutinefunction(check):
                asyncio.run(check())
            else:
                check()
        except Exception as wrong:  # noqa: BLE001 - the report shows it
            traceback.print_exc()
            error = f"{type(wrong).__name__}: {wrong}"[:2000]
        # On a line of its own: some clients leave what they print without an end.
        print("\n" + json.dumps({"check": name, "error": error}), flush=True)
