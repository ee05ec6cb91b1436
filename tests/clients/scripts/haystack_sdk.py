"""Haystack's generator for OpenAI's chat completions."""

from __future__ import annotations

import json
from typing import Any

import checks
from counts import Counts, report_count
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, ImageContent
from haystack.tools import create_tool_from_function
from haystack.utils import Secret


def ask(parts: list[Any], **more: Any) -> ChatMessage:
    key = Secret.from_token(checks.KEY)
    generator = OpenAIChatGenerator(model=checks.MODEL, api_base_url=checks.API, api_key=key, **more)
    return generator.run([ChatMessage.from_user(content_parts=parts)])["replies"][0]


def shelf() -> ImageContent:
    return ImageContent.from_file_path(checks.SHELF)


def text() -> None:
    checks.equal(ask([checks.HELLO]).text, checks.HELLO_ANSWER)


def picture() -> None:
    checks.equal(ask([checks.HOW_MANY, shelf()]).text, checks.HOW_MANY_ANSWER)


def stream() -> None:
    parts: list[str] = []
    ask([checks.HELLO], streaming_callback=lambda chunk: parts.append(chunk.content))
    checks.equal("".join(parts), checks.HELLO_ANSWER)


def schema() -> None:
    answer = ask([checks.COUNT, shelf()], generation_kwargs={"response_format": Counts})
    checks.equal(json.loads(answer.text or ""), checks.COUNTS)


def tools() -> None:
    tool = create_tool_from_function(report_count)
    answer = ask([checks.COUNT, shelf()], tools=[tool], generation_kwargs={"tool_choice": "required"})
    checks.equal([call.arguments for call in answer.tool_calls], [checks.COUNTS])


checks.run("haystack-ai", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
