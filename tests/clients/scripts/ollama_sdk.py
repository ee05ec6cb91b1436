"""Ollama's Python client."""

from __future__ import annotations

import json
from typing import Any

import checks
from counts import report_count
from ollama import Client

client: Any = Client(host=checks.BASE_URL)


def question(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text, "images": [checks.SHELF]}]


def text() -> None:
    checks.equal([model.model.partition(":")[0] for model in client.list().models], [checks.MODEL])
    checks.is_true("vision" in client.show(checks.MODEL).capabilities)
    answer = client.chat(checks.MODEL, [{"role": "user", "content": checks.HELLO}])
    checks.equal(answer.message.content, checks.HELLO_ANSWER)
    checks.equal(client.generate(checks.MODEL, checks.HELLO).response, checks.HELLO_ANSWER)


def picture() -> None:
    checks.equal(client.chat(checks.MODEL, question(checks.HOW_MANY)).message.content, checks.HOW_MANY_ANSWER)
    answer = client.generate(checks.MODEL, checks.HOW_MANY, images=[checks.SHELF])
    checks.equal(answer.response, checks.HOW_MANY_ANSWER)


def stream() -> None:
    parts = list(client.chat(checks.MODEL, [{"role": "user", "content": checks.HELLO}], stream=True))
    checks.equal("".join(part.message.content for part in parts), checks.HELLO_ANSWER)
    checks.equal([part.done for part in parts].index(True), len(parts) - 1)


def schema() -> None:
    answer = client.chat(checks.MODEL, question(checks.COUNT), format=checks.COUNT_SCHEMA)
    checks.equal(json.loads(answer.message.content), checks.COUNTS)


def tools() -> None:
    answer = client.chat(checks.MODEL, question(checks.COUNT), tools=[report_count])
    calls = answer.message.tool_calls or []
    checks.equal(
        [(call.function.name, dict(call.function.arguments)) for call in calls], [("report_count", checks.COUNTS)]
    )
    result = {"role": "tool", "tool_name": "report_count", "content": "noted"}
    more = [*question(checks.COUNT), answer.message, result]
    checks.is_true(client.chat(checks.MODEL, more, tools=[report_count]).done)


checks.run("ollama", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
