"""LiteLLM as a library."""

from __future__ import annotations

import json
from typing import Any

import checks
import litellm
from pydantic import BaseModel


class Counts(BaseModel):
    bottles: int
    cans: int


def chat(messages: list[dict[str, Any]], **more: Any) -> Any:
    model = f"openai/{checks.MODEL}"
    return litellm.completion(model=model, api_base=checks.API, api_key=checks.KEY, messages=messages, **more)


def text() -> None:
    answer = chat([{"role": "user", "content": checks.HELLO}])
    checks.equal(answer.choices[0].message.content, checks.HELLO_ANSWER)


def picture() -> None:
    checks.equal(chat(checks.question(checks.HOW_MANY)).choices[0].message.content, checks.HOW_MANY_ANSWER)


def stream() -> None:
    chunks = chat([{"role": "user", "content": checks.HELLO}], stream=True)
    checks.equal("".join(chunk.choices[0].delta.content or "" for chunk in chunks), checks.HELLO_ANSWER)


def schema() -> None:
    answer = chat(checks.question(checks.COUNT), response_format=Counts)
    checks.equal(json.loads(answer.choices[0].message.content), checks.COUNTS)


def tools() -> None:
    answer = chat(checks.question(checks.COUNT), tools=[checks.COUNT_TOOL], tool_choice="required")
    calls = answer.choices[0].message.tool_calls
    checks.equal([json.loads(call.function.arguments) for call in calls], [checks.COUNTS])


checks.run("litellm", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
