"""OpenAI's Python client, of any major version."""

from __future__ import annotations

import json
from typing import Any

import checks
from openai import OpenAI

client: Any = OpenAI(base_url=checks.API, api_key=checks.KEY)


def chat(messages: list[dict[str, Any]], **more: Any) -> Any:
    return client.chat.completions.create(model=checks.MODEL, messages=messages, **more)


def text() -> None:
    checks.equal([model.id for model in client.models.list()], [checks.MODEL])
    answer = chat([{"role": "user", "content": checks.HELLO}])
    checks.equal(answer.choices[0].message.content, checks.HELLO_ANSWER)
    answer = client.responses.create(model=checks.MODEL, input=checks.HELLO)
    checks.equal(answer.output_text, checks.HELLO_ANSWER)


def picture() -> None:
    checks.equal(chat(checks.question(checks.HOW_MANY)).choices[0].message.content, checks.HOW_MANY_ANSWER)
    parts = [{"type": "input_text", "text": checks.HOW_MANY}, {"type": "input_image", "image_url": checks.SHELF_URL}]
    answer = client.responses.create(model=checks.MODEL, input=[{"role": "user", "content": parts}])
    checks.equal(answer.output_text, checks.HOW_MANY_ANSWER)


def stream() -> None:
    chunks = chat([{"role": "user", "content": checks.HELLO}], stream=True)
    checks.equal("".join(chunk.choices[0].delta.content or "" for chunk in chunks), checks.HELLO_ANSWER)
    with client.responses.stream(model=checks.MODEL, input=checks.HELLO) as events:
        texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    checks.equal("".join(texts), checks.HELLO_ANSWER)


def schema() -> None:
    described = {"name": "counts", "strict": True, "schema": checks.COUNT_SCHEMA}
    wanted = {"type": "json_schema", "json_schema": described}
    answer = chat(checks.question(checks.COUNT), response_format=wanted)
    checks.equal(json.loads(answer.choices[0].message.content), checks.COUNTS)


def tools() -> None:
    messages = checks.question(checks.COUNT)
    called = chat(messages, tools=[checks.COUNT_TOOL], tool_choice="required").choices[0].message
    checks.equal([json.loads(call.function.arguments) for call in called.tool_calls], [checks.COUNTS])
    result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "noted"}
    answer = chat([*messages, called, result], tools=[checks.COUNT_TOOL], max_tokens=16)
    checks.is_true(answer.choices[0].finish_reason)


checks.run("openai", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
