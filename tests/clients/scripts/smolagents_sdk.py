"""smolagents' model for services that speak OpenAI's format."""

from __future__ import annotations

import json
from typing import Any

import chat_completions
import checks
from counts import report_count
from PIL import Image
from smolagents import OpenAIServerModel, tool

model: Any = OpenAIServerModel(model_id=checks.MODEL, api_base=checks.API, api_key=checks.KEY)


def question(text: str) -> list[dict[str, Any]]:
    content = [{"type": "text", "text": text}, {"type": "image", "image": Image.open(checks.SHELF)}]
    return [{"role": "user", "content": content}]


def hello() -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": checks.HELLO}]}]


def text() -> None:
    checks.equal(model(hello()).content, checks.HELLO_ANSWER)


def picture() -> None:
    checks.equal(model(question(checks.HOW_MANY)).content, checks.HOW_MANY_ANSWER)


def stream() -> None:
    checks.equal("".join(delta.content or "" for delta in model.generate_stream(hello())), checks.HELLO_ANSWER)


def schema() -> None:
    wanted = {"type": "json_schema", "json_schema": chat_completions.COUNTS_FORMAT}
    checks.equal(json.loads(model(question(checks.COUNT), response_format=wanted).content), checks.COUNTS)


def tools() -> None:
    answer = model(question(checks.COUNT), tools_to_call_from=[tool(report_count)])
    calls = [call.function.arguments for call in answer.tool_calls]
    checks.equal([json.loads(given) if isinstance(given, str) else given for given in calls], [checks.COUNTS])


checks.run("smolagents", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
