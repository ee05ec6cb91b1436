"""Builders of chat completion requests."""

from __future__ import annotations

from typing import Any

from vlrun.server.api.openapi import document
from vlrun.server.limits import ServerLimits

PATH = document(ServerLimits(), "vlrun-tiny", keyed=False)["paths"]["/v1/chat/completions"]["post"]
EXAMPLES = PATH["requestBody"]["content"]["application/json"]["examples"]
IMAGE: str = EXAMPLES["a-question-about-an-image"]["value"]["messages"][0]["content"][1]["image_url"]["url"]
"""The image of the OpenAPI examples."""

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bergen"}'}}
FUNCTION = {"name": "weather", "description": "The weather.", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": {**FUNCTION, "strict": True}}
NAMED = {"type": "function", "function": {"name": "weather"}}


def user(*content: object) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def image(**more: object) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": IMAGE, **more}}


def request(*messages: object, **more: object) -> dict[str, Any]:
    return {"model": "vlrun-tiny", "messages": list(messages) or [user("hi")], **more}
