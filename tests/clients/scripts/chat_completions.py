"""Checks of clients that have OpenAI's function for chat completions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import checks

HELLO = [{"role": "user", "content": checks.HELLO}]
COUNTS_FORMAT = {"name": "counts", "strict": True, "schema": checks.COUNT_SCHEMA}


def all_checks(chat: Callable[..., Any]) -> dict[str, Callable[[], None]]:
    """The checks of ``chat``, which is called with the messages and other parameters of a request by name."""

    def text() -> None:
        checks.equal(chat(messages=HELLO).choices[0].message.content, checks.HELLO_ANSWER)

    def picture() -> None:
        answer = chat(messages=checks.question(checks.HOW_MANY))
        checks.equal(answer.choices[0].message.content, checks.HOW_MANY_ANSWER)

    def stream() -> None:
        chunks = chat(messages=HELLO, stream=True)
        checks.equal("".join(chunk.choices[0].delta.content or "" for chunk in chunks), checks.HELLO_ANSWER)

    def schema() -> None:
        wanted = {"type": "json_schema", "json_schema": COUNTS_FORMAT}
        answer = chat(messages=checks.question(checks.COUNT), response_format=wanted)
        checks.equal(json.loads(answer.choices[0].message.content), checks.COUNTS)

    def tools() -> None:
        messages = checks.question(checks.COUNT)
        called = chat(messages=messages, tools=[checks.COUNT_TOOL], tool_choice="required").choices[0].message
        checks.equal([json.loads(call.function.arguments) for call in called.tool_calls], [checks.COUNTS])
        result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "noted"}
        answer = chat(messages=[*messages, called, result], tools=[checks.COUNT_TOOL], max_tokens=16)
        checks.is_true(answer.choices[0].finish_reason)

    return {"text": text, "picture": picture, "stream": stream, "schema": schema, "tools": tools}
