"""Anthropic's Python client."""

from __future__ import annotations

from typing import Any

import checks
from anthropic import Anthropic
from counts import Counts

client: Any = Anthropic(base_url=checks.BASE_URL, api_key=checks.KEY)


def question(text: str) -> list[dict[str, Any]]:
    source = {"type": "base64", "media_type": "image/png", "data": checks.SHELF_BASE64}
    return [{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": text}]}]


def create(messages: list[dict[str, Any]], **more: Any) -> Any:
    return client.messages.create(model=checks.MODEL, max_tokens=256, messages=messages, **more)


def text() -> None:
    (block,) = create([{"role": "user", "content": checks.HELLO}]).content
    checks.equal(block.text, checks.HELLO_ANSWER)


def picture() -> None:
    (block,) = create(question(checks.HOW_MANY)).content
    checks.equal(block.text, checks.HOW_MANY_ANSWER)


def stream() -> None:
    messages = [{"role": "user", "content": checks.HELLO}]
    with client.messages.stream(model=checks.MODEL, max_tokens=256, messages=messages) as events:
        checks.equal("".join(events.text_stream), checks.HELLO_ANSWER)
        checks.equal(events.get_final_message().stop_reason, "end_turn")


def schema() -> None:
    messages = question(checks.COUNT)
    parsed = client.messages.parse(model=checks.MODEL, max_tokens=256, messages=messages, output_format=Counts)
    checks.equal(parsed.parsed_output.model_dump(), checks.COUNTS)


def tools() -> None:
    tool = {"name": "report_count", "description": "Report the counts.", "input_schema": checks.COUNT_SCHEMA}
    messages = question(checks.COUNT)
    answer = create(messages, tools=[tool], tool_choice={"type": "any"})
    calls = [block for block in answer.content if block.type == "tool_use"]
    checks.equal([call.input for call in calls], [checks.COUNTS])
    checks.equal(answer.stop_reason, "tool_use")
    result = {"type": "tool_result", "tool_use_id": calls[0].id, "content": "noted"}
    more = [*messages, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    checks.is_true(create(more, tools=[tool]).stop_reason)


checks.run("anthropic", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
