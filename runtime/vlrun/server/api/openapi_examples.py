"""Examples of requests for the OpenAPI document. Each one works as it stands."""

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

_QUESTION = "What is in this image?"
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


def _image_message() -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}}
    return {"role": "user", "content": [{"type": "text", "text": _QUESTION}, image]}


def chat_examples(model: str) -> Examples:
    """Examples of chat completions."""
    image = {"model": model, "messages": [_image_message()], "max_tokens": 64}
    schema = {"type": "json_schema", "json_schema": {"name": "thing", "schema": _SHAPE, "strict": True}}
    weather = [{"role": "user", "content": "What is the weather in Bergen?"}]
    tools = [{"type": "function", "function": _WEATHER}]
    return _named(
        {
            "A question": {"model": model, "messages": [{"role": "user", "content": "Say hello."}]},
            "A question about an image": image,
            "A stream": {**image, "stream": True, "stream_options": {"include_usage": True}},
            "A JSON schema": {**image, "response_format": schema},
            "A tool": {"model": model, "messages": weather, "tools": tools},
        }
    )


def responses_examples(model: str) -> Examples:
    """Examples of responses."""
    image = {"type": "input_image", "image_url": IMAGE, "detail": "low"}
    content = [{"type": "input_text", "text": _QUESTION}, image]
    asked = {"model": model, "input": [{"type": "message", "role": "user", "content": content}]}
    schema = {"format": {"type": "json_schema", "name": "thing", "schema": _SHAPE, "strict": True}}
    return _named(
        {
            "A question": {"model": model, "instructions": "Be brief.", "input": "Say hello."},
            "A question about an image": asked,
            "A stream": {**asked, "stream": True},
            "A JSON schema": {**asked, "text": schema},
        }
    )


def tokenize_examples(model: str) -> Examples:
    """Examples of token counts."""
    return _named(
        {
            "A conversation with an image": {"model": model, "messages": [_image_message()]},
            "A text": {"prompt": "How many tokens is this?"},
        }
    )


def _named(examples: Mapping[str, Any]) -> Examples:
    return {summary.lower().replace(" ", "-"): {"summary": summary, "value": examples[summary]} for summary in examples}
