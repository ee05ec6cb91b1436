"""OpenAI's Python client, of any major version: chat completions and responses."""

from __future__ import annotations

import functools
from typing import Any

import chat_completions
import checks
from openai import OpenAI

client: Any = OpenAI(base_url=checks.API, api_key=checks.KEY)
of_chat = chat_completions.all_checks(functools.partial(client.chat.completions.create, model=checks.MODEL))


def text() -> None:
    checks.equal([model.id for model in client.models.list()], [checks.MODEL])
    of_chat["text"]()
    answer = client.responses.create(model=checks.MODEL, input=checks.HELLO)
    checks.equal(answer.output_text, checks.HELLO_ANSWER)


def picture() -> None:
    of_chat["picture"]()
    parts = [{"type": "input_text", "text": checks.HOW_MANY}, {"type": "input_image", "image_url": checks.SHELF_URL}]
    answer = client.responses.create(model=checks.MODEL, input=[{"role": "user", "content": parts}])
    checks.equal(answer.output_text, checks.HOW_MANY_ANSWER)


def stream() -> None:
    of_chat["stream"]()
    with client.responses.stream(model=checks.MODEL, input=checks.HELLO) as events:
        texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    checks.equal("".join(texts), checks.HELLO_ANSWER)


checks.run("openai", **of_chat | {"text": text, "picture": picture, "stream": stream})
