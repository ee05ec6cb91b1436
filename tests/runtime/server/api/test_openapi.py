"""The OpenAPI document matches what the service accepts and sends."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from jsonschema import Draft202012Validator
from PIL import Image

from tests.runtime.server.api.chat_requests import IMAGE
from vlrun.server.api import chat, completions, responses, tokenize
from vlrun.server.api.anthropic import parsing as anthropic
from vlrun.server.api.chat_schemas import ChatRequest
from vlrun.server.api.image_uploads import parse_upload
from vlrun.server.api.ollama import parsing as ollama
from vlrun.server.api.openapi import document
from vlrun.server.api.responses_schemas import ResponsesRequest
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import ServerLimits

MODEL = "vlrun-tiny"
KEYED, OPEN = document(ServerLimits(), MODEL, keyed=True), document(ServerLimits(), MODEL, keyed=False)
PARSERS: dict[str, Callable[[Any, list[str], ServerLimits], object]] = {
    "/v1/chat/completions": chat.parse,
    "/v1/completions": completions.parse,
    "/v1/responses": responses.parse,
    "/v1/tokenize": tokenize.parse,
    "/v1/messages": anthropic.parse,
    "/v1/messages/count_tokens": anthropic.parse_count,
    "/api/chat": ollama.parse_chat,
    "/api/generate": ollama.parse_prompt,
    "/api/show": lambda value, names, _: ollama.parse_name(value, names),
    "/v1/images": lambda value, _, limits: parse_upload(b"", json.dumps(value).encode(), limits),
    "/api/pull": lambda value, names, _: ollama.parse_name(value, names),
}


def operations(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def objects(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(member)


def valid(value: object, name: str) -> bool:
    schema = {"$ref": f"#/components/schemas/{name}", "components": KEYED["components"]}
    return Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize("spec", [KEYED, OPEN])
def test_references_and_schemas_are_valid(spec: dict[str, Any]) -> None:
    """A dangling reference or an invalid schema breaks client generators."""
    assert msgspec.json.decode(msgspec.json.encode(spec)) == spec
    for reference in {found["$ref"] for found in objects(spec) if "$ref" in found}:
        target: Any = spec
        for name in reference.removeprefix("#/").split("/"):
            target = target[name]
    for schema in spec["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.slow
def test_schemathesis_finds_all_endpoints() -> None:
    loaded = schemathesis.openapi.from_dict(KEYED)
    found = [operation.ok() for operation in loaded.get_all_operations()]  # type: ignore[union-attr] # an error fails here
    assert sorted(operation.label for operation in found) == sorted(
        [
            "GET /api/ps",
            "GET /api/tags",
            "GET /api/version",
            "GET /health",
            "GET /health/live",
            "GET /health/ready",
            "GET /metrics",
            "DELETE /v1/images/{id}",
            "GET /v1/images/{id}",
            "GET /v1/images/{id}/preview",
            "GET /v1/models",
            "GET /v1/models/{model}",
            "GET /v1/tasks",
            "POST /api/chat",
            "POST /api/generate",
            "POST /api/pull",
            "POST /api/show",
            "POST /api/v1/analyze",
            "POST /api/v1/chat",
            "POST /v1/chat/completions",
            "POST /v1/images",
            "POST /v1/messages",
            "POST /v1/messages/count_tokens",
            "POST /v1/completions",
            "POST /v1/responses",
            "POST /v1/tokenize",
        ]
    )


def test_security_is_documented_where_keys_are_needed() -> None:
    """Generated clients send a key where the document demands one."""
    assert KEYED["security"] == [{"bearer": []}]
    public = ["GET /health", "GET /health/live"]
    assert [name for name, operation in operations(KEYED) if operation.get("security") == []] == public
    assert [name for name, operation in operations(KEYED) if "401" not in operation["responses"]] == public
    assert "security" not in OPEN
    assert "securitySchemes" not in OPEN["components"]
    assert not any("401" in operation["responses"] for _, operation in operations(OPEN))


def test_every_error_status_is_documented() -> None:
    """Rows 22 to 30; a 429 has Retry-After."""
    for name, operation in operations(OPEN):
        assert set(operation["responses"]) >= {"200", "400", "403", "408", "414", "431", "500", "503"}
        posted = {"413", "415", "429", "504"} <= set(operation["responses"])
        assert posted == name.startswith("POST")
    checked = {name for name, operation in operations(OPEN) if "422" in operation["responses"]}
    assert checked == {  # the endpoints whose answers may have a schema or call tools
        "POST /v1/chat/completions",
        "POST /v1/responses",
        "POST /v1/messages",
        "POST /api/chat",
        "POST /api/generate",
    }
    for named, response in OPEN["components"]["responses"].items():
        schema = response["content"]["application/json"]["schema"]
        body = f"{named}Body" if named in ("OllamaError", "AnthropicError") else "ErrorBody"
        assert schema == {"$ref": f"#/components/schemas/{body}"}, named
    assert OPEN["components"]["responses"]["Error429"]["headers"]["Retry-After"]["required"]


@pytest.mark.parametrize("path", PARSERS)
def test_examples_are_valid_requests(path: str) -> None:
    content = OPEN["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    name = content["schema"]["$ref"].rpartition("/")[2]
    assert len(content["examples"]) >= 2
    for example in content["examples"].values():
        assert PARSERS[path](example["value"], [MODEL], ServerLimits())
        assert valid(example["value"], name)


def test_the_example_image_can_be_decoded() -> None:
    image = Image.open(io.BytesIO(base64.b64decode(IMAGE.partition(",")[2])))
    assert image.size == (64, 64)
    assert image.convert("RGB").getpixel((32, 32)) == (255, 0, 0)


BASE: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({**BASE, "temperature": 3}, "ChatRequest"),
        ({**BASE, "n": 9}, "ChatRequest"),
        ({**BASE, "n": 1.5}, "ChatRequest"),
        ({**BASE, "stop": ["a"] * 17}, "ChatRequest"),
        ({**BASE, "unknown": 1}, "ChatRequest"),
        ({**BASE, "model": "other"}, "ChatRequest"),
        ({**BASE, "messages": []}, "ChatRequest"),
        ({**BASE, "messages": BASE["messages"] * 513}, "ChatRequest"),
        ({"model": MODEL, "prompt": ""}, "CompletionRequest"),
        ({"model": MODEL, "prompt": [1, 2]}, "CompletionRequest"),
        ({**BASE, "tools": [{"type": "function", "function": {"name": "a b"}}]}, "ChatRequest"),
        ({"model": MODEL, "input": [{"role": "user"}]}, "ResponsesRequest"),
        ({"model": MODEL, "input": "hi", "previous_response_id": "x"}, "ResponsesRequest"),
        ({"query": "hi"}, "FormFields"),
        ({"model": MODEL, "prompt": "hi", "raw": True}, "OllamaGenerateRequest"),
        ({**BASE, "options": {"mirostat": 1}}, "OllamaChatRequest"),
        ({**BASE, "options": {"unknown": 1}}, "OllamaChatRequest"),
        ({**BASE, "format": "xml"}, "OllamaChatRequest"),
        ({}, "NamedModel"),
        ({"model": None, "name": "other"}, "NamedModel"),
        (BASE, "MessagesRequest"),
        ({**BASE, "max_tokens": 9, "container": "x"}, "MessagesRequest"),
        ({**BASE, "max_tokens": 9, "system": [{"text": "a"}]}, "MessagesRequest"),
    ],
)
def test_document_excludes_invalid_requests(value: object, name: str) -> None:
    """Users of generated clients would discover an undocumented bound."""
    assert not valid(value, name)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (BASE, "ChatRequest"),
        ({**BASE, "temperature": None, "stop": None}, "ChatRequest"),
        ({"model": MODEL, "input": [{"role": "user", "content": "hi"}]}, "ResponsesRequest"),
        ({"image": "the file"}, "FormFields"),
        ({**BASE, "max_tokens": 9, "metadata": {"user_id": "me"}, "tools": None, "unknown": None}, "MessagesRequest"),
        ({"name": MODEL, "model": None}, "NamedModel"),
        ({**BASE, "options": None, "think": None, "unknown": None}, "OllamaChatRequest"),
        ({**BASE, "model": f"{MODEL}:latest", "options": {"num_ctx": 8192, "stop": None}}, "OllamaChatRequest"),
    ],
)
def test_document_allows_valid_requests(value: object, name: str) -> None:
    """Including nulls, and messages without a type."""
    assert valid(value, name)


@pytest.mark.parametrize("kind", [ChatRequest, ResponsesRequest])
def test_document_has_the_fields_of_the_types(kind: type[msgspec.Struct]) -> None:
    assert list(OPEN["components"]["schemas"][kind.__name__]["properties"]) == list(kind.__struct_fields__)


IGNORED: list[tuple[dict[str, Any], bool]] = [
    ({"store": 5}, True),
    ({"min_tokens": 0}, True),
    ({"min_tokens": None}, True),
    ({"min_tokens": 1}, False),
    ({"ignore_eos": False}, True),
    ({"ignore_eos": 0}, False),
    ({"anything": None}, True),
    ({"anything": False}, False),
    ({"guided_json": None}, True),
    ({"guided_json": {}}, False),
    ({"stream_options": {"continuous_usage_stats": True, "other": None}}, True),
    ({"stream_options": {"other": 1}}, False),
    ({"messages": [{**BASE["messages"][0], "cache_control": {"type": "ephemeral"}, "other": None}]}, True),
    ({"messages": [{**BASE["messages"][0], "other": 1}]}, False),
]


@pytest.mark.parametrize(("given", "accepted"), IGNORED)
def test_ignored_fields_are_those_of_the_document(given: dict[str, Any], accepted: bool) -> None:
    """Generated clients check their requests."""
    assert valid(BASE | given, "ChatRequest") is accepted
    if accepted:
        assert chat.parse(BASE | given, [MODEL], ServerLimits()) == chat.parse(BASE, [MODEL], ServerLimits())
    else:
        with pytest.raises(ApiError):
            chat.parse(BASE | given, [MODEL], ServerLimits())


def test_description_has_the_limits_of_the_service() -> None:
    spec = document(ServerLimits(max_images=3, queue=7), MODEL, keyed=False)["info"]["description"]
    assert "3 images" in spec
    assert "7 requests" in spec


def test_readiness_has_its_own_body_for_503() -> None:
    queue = {"running": 0, "waiting": 0, "limit": 16}
    ready = {"ready": False, "status": "stuck", "model": "m", "device": "CPU", "queue": queue, "notes": []}
    memory = {"resident_bytes": None, "available_bytes": 1}
    ready |= {"context": None, "memory": memory, "thinks": False, "inputs": [], "version": "1"}
    limits = ("body_bytes", "images", "image_pixels", "task_names", "task_name_length")
    ready |= {"limits": dict.fromkeys(limits, 1)}
    schema = OPEN["paths"]["/health/ready"]["get"]["responses"]["503"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": OPEN["components"]})
    assert validator.is_valid(ready)
    assert not validator.is_valid({"status": "stuck"})


def test_streams_are_documented_as_events() -> None:
    """Each event is JSON as text, or [DONE]."""
    schema = OPEN["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    chunk, end = schema["properties"]["data"]["anyOf"]
    assert end == {"const": "[DONE]"}
    names = [found["$ref"].rpartition("/")[2] for found in chunk["contentSchema"]["anyOf"]]
    assert names == ["ChatCompletionChunk", "ErrorBody"]


def test_document_is_small() -> None:
    """Browsers on small machines load it."""
    assert len(json.dumps(OPEN)) < 165_000
