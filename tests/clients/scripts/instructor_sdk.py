"""Instructor in its default mode (a required tool call) and in its mode for JSON Schema."""

from __future__ import annotations

from typing import Any

import checks
import instructor
from counts import Counts
from openai import OpenAI


def client(mode: instructor.Mode = instructor.Mode.TOOLS) -> Any:
    return instructor.from_openai(OpenAI(base_url=checks.API, api_key=checks.KEY), mode=mode)


def ask(mode: instructor.Mode, **more: Any) -> Any:
    content = [checks.COUNT, instructor.Image.from_path(checks.SHELF)]
    messages = [{"role": "user", "content": content}]
    return client(mode).chat.completions.create(
        model=checks.MODEL, messages=messages, response_model=Counts, max_retries=0, **more
    )


def text() -> None:
    messages = [{"role": "user", "content": checks.HELLO}]
    answer = client().chat.completions.create(model=checks.MODEL, messages=messages, response_model=None)
    checks.equal(answer.choices[0].message.content, checks.HELLO_ANSWER)


def picture() -> None:
    checks.equal(ask(instructor.Mode.TOOLS).model_dump(), checks.COUNTS)


def stream() -> None:
    content = [checks.COUNT, instructor.Image.from_path(checks.SHELF)]
    create = client().chat.completions.create_partial
    parts = list(create(model=checks.MODEL, messages=[{"role": "user", "content": content}], response_model=Counts))
    checks.equal(parts[-1].model_dump(), checks.COUNTS)


def schema() -> None:
    checks.equal(ask(instructor.Mode.JSON_SCHEMA).model_dump(), checks.COUNTS)


checks.run("instructor", text=text, picture=picture, stream=stream, schema=schema, tools=picture)
