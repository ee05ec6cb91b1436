"""Examples of requests in the OpenAPI document: each one works as it stands, with curl too.

Plain values. Knows the endpoints' words; knows no schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Examples: TypeAlias = Mapping[str, Mapping[str, Any]]

IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEX////cHh7/Hx2WAAAAg0lEQVR42r3QsQ2DQBQE"
    "0ccHCTJTAu4Ed+QSrwSXQAmEJwtxDpCtC4gcsNFoVtpguTa3jMCzP0RTSgJ9KSvBwEAw0hFMBMFMQ0tCk0IDs/jOx4FTbToYa/ODAYbT6j/IkE+rDdba"
    "7LDUpkDSYuYhSBSChZ1gZSPIZII3L1qY79XPF+QDrEEctGfYTQAAAAAASUVORK5CYII="
)
"""A red disc on white, 64x64 pixels."""

_QUESTION = [
    {"type": "text", "text": "What is in this picture?"},
    {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
]
_SHAPE = {
    "type": "object",
    "properties": {"shape": {"type": "string", "maxLength": 40}, "color": {"type": "string", "maxLength": 40}},
    "required": ["shape", "color"],
    "additionalProperties": False,
}
_WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def chat_examples(model: str) -> Examples:
    """Of chat completions."""
    image = {"model": model, "messages": [{"role": "user", "content": _QUESTION}], "max_tokens": 64}
    schema = {"type": "json_schema", "json_schema": {"name": "thing", "schema": _SHAPE, "strict": True}}
    weather = [{"role": "user", "content": "What is the weather in Bergen?"}]
    tools = [{"type": "function", "function": _WEATHER}]
    return {
        "text": _example("A question", {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}),
        "image": _example("A question about an image", image),
        "stream": _example("As it comes", {**image, "stream": True, "stream_options": {"include_usage": True}}),
        "schema": _example("An answer under a JSON schema", {**image, "response_format": schema}),
        "tools": _example("With a tool that it may call", {"model": model, "messages": weather, "tools": tools}),
    }


def responses_examples(model: str) -> Examples:
    """Of responses."""
    content = [
        {"type": "input_text", "text": "What is in this picture?"},
        {"type": "input_image", "image_url": IMAGE, "detail": "low"},
    ]
    image = {"model": model, "input": [{"type": "message", "role": "user", "content": content}]}
    schema = {"format": {"type": "json_schema", "name": "thing", "schema": _SHAPE, "strict": True}}
    return {
        "text": _example("A question", {"model": model, "instructions": "Be brief.", "input": "Say hello."}),
        "image": _example("A question about an image", image),
        "stream": _example("As it comes", {**image, "stream": True}),
        "schema": _example("An answer under a JSON schema", {**image, "text": schema}),
    }


def tokenize_examples(model: str) -> Examples:
    """Of counting tokens."""
    image = {"model": model, "messages": [{"role": "user", "content": _QUESTION}]}
    return {
        "conversation": _example("A conversation with an image", image),
        "text": _example("A text alone", {"prompt": "How many tokens is this?"}),
    }


def _example(summary: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"summary": summary, "value": value}
