"""AutoGen's client for OpenAI's chat completions."""

from __future__ import annotations

import json
from typing import Any

import checks
from autogen_core import Image
from autogen_core.models import UserMessage
from autogen_core.tools import FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient
from counts import Counts, report_count

INFO = {
    "vision": True,
    "function_calling": True,
    "json_output": True,
    "structured_output": True,
    "family": "unknown",
}


def client() -> Any:
    return OpenAIChatCompletionClient(model=checks.MODEL, base_url=checks.API, api_key=checks.KEY, model_info=INFO)


def question(text: str) -> list[Any]:
    return [UserMessage(content=[text, Image.from_file(checks.SHELF)], source="user")]


async def text() -> None:
    answer = await client().create([UserMessage(content=checks.HELLO, source="user")])
    checks.equal(answer.content, checks.HELLO_ANSWER)


async def picture() -> None:
    checks.equal((await client().create(question(checks.HOW_MANY))).content, checks.HOW_MANY_ANSWER)


async def stream() -> None:
    messages = [UserMessage(content=checks.HELLO, source="user")]
    parts = [part async for part in client().create_stream(messages)]
    checks.equal("".join(part for part in parts if isinstance(part, str)), checks.HELLO_ANSWER)


async def schema() -> None:
    answer = await client().create(question(checks.COUNT), json_output=Counts)
    checks.equal(json.loads(answer.content), checks.COUNTS)


async def tools() -> None:
    tool = FunctionTool(report_count, description="Report the counts.")
    answer = await client().create(question(checks.COUNT), tools=[tool], tool_choice="required")
    checks.equal([json.loads(call.arguments) for call in answer.content], [checks.COUNTS])


checks.run("autogen-ext", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
