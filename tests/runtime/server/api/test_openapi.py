"""The OpenAPI document says what the service does, and the page that shows it asks no other address."""

from __future__ import annotations

import base64
import gzip
import html.parser
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from jsonschema import Draft202012Validator
from PIL import Image

from tests.runtime.server.api.chat_requests import IMAGE
from vlrun.server.api import chat, responses, tokenize
from vlrun.server.api.chat_schemas import ChatRequest
from vlrun.server.api.docs_page import TYPES, asset
from vlrun.server.api.openapi import document
from vlrun.server.api.responses_schemas import ResponsesRequest
from vlrun.server.limits import ServerLimits

MODEL = "vlrun-tiny"
KEYED, OPEN = document(ServerLimits(), MODEL, keyed=True), document(ServerLimits(), MODEL, keyed=False)
READERS = {
    "/v1/chat/completions": chat.parse,
    "/v1/responses": responses.parse,
    "/v1/tokenize": tokenize.parse,
}


def operations(received: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in received["paths"].items():
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


@pytest.mark.parametrize("received", [KEYED, OPEN])
def test_document_holds_together(received: dict[str, Any]) -> None:
    """A reference into nothing, or a schema that is none, breaks generators of clients."""
    assert msgspec.json.decode(msgspec.json.encode(received)) == received
    for reference in {found["$ref"] for found in objects(received) if "$ref" in found}:
        place: Any = received
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]
    for schema in received["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.slow
def test_schemathesis_reads_it() -> None:
    """Each endpoint is one that a fuzzer finds."""
    loaded = schemathesis.openapi.from_dict(KEYED)
    found = [operation.ok() for operation in loaded.get_all_operations()]  # type: ignore[union-attr] # or it fails here
    assert sorted(operation.label for operation in found) == sorted(
        [
            "GET /health/live",
            "GET /health/ready",
            "GET /metrics",
            "GET /v1/models",
            "GET /v1/models/{model}",
            "POST /api/v1/analyze",
            "POST /api/v1/chat",
            "POST /v1/chat/completions",
            "POST /v1/responses",
            "POST /v1/tokenize",
        ]
    )


def test_keys_are_told_where_they_are_needed() -> None:
    """A client that is made from the document would send no key, or want one where there is none."""
    assert KEYED["security"] == [{"bearer": []}]
    assert [name for name, operation in operations(KEYED) if operation.get("security") == []] == ["GET /health/live"]
    assert [name for name, operation in operations(KEYED) if "401" not in operation["responses"]] == [
        "GET /health/live"
    ]
    assert "security" not in OPEN
    assert "securitySchemes" not in OPEN["components"]
    assert not any("401" in operation["responses"] for _, operation in operations(OPEN))


def test_every_error_has_our_shape() -> None:
    """Rows 22 to 30: each status that can come is named, and 429 says when to come back."""
    for name, operation in operations(OPEN):
        assert set(operation["responses"]) >= {"200", "400", "403", "408", "414", "431", "500", "503"}
        posted = {"413", "415", "429", "504"} <= set(operation["responses"])
        assert posted == name.startswith("POST")
    for named, response in OPEN["components"]["responses"].items():
        schema = response["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ErrorBody"}, named
    assert OPEN["components"]["responses"]["Error429"]["headers"]["Retry-After"]["required"]


@pytest.mark.parametrize("path", READERS)
def test_examples_are_read_and_valid(path: str) -> None:
    """An example that does not work is the first thing that a newcomer tries."""
    content = OPEN["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    name = content["schema"]["$ref"].rpartition("/")[2]
    assert len(content["examples"]) >= 2
    for example in content["examples"].values():
        assert READERS[path](example["value"], [MODEL], ServerLimits())
        assert valid(example["value"], name)


def test_the_example_is_a_image() -> None:
    """It is written out in letters."""
    image = Image.open(io.BytesIO(base64.b64decode(IMAGE.partition(",")[2])))
    assert image.size == (64, 64)
    assert image.convert("RGB").getpixel((32, 32)) == (220, 30, 30)


BASE: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({**BASE, "temperature": 3}, "ChatRequest"),
        ({**BASE, "n": 9}, "ChatRequest"),
        ({**BASE, "n": 1.5}, "ChatRequest"),
        ({**BASE, "stop": ["a"] * 17}, "ChatRequest"),
        ({**BASE, "unknown": 1}, "ChatRequest"),
        ({**BASE, "store": True}, "ChatRequest"),
        ({**BASE, "model": "other"}, "ChatRequest"),
        ({**BASE, "messages": []}, "ChatRequest"),
        ({**BASE, "messages": BASE["messages"] * 513}, "ChatRequest"),
        ({**BASE, "tools": [{"type": "function", "function": {"name": "a b"}}]}, "ChatRequest"),
        ({"model": MODEL, "input": [{"role": "user"}]}, "ResponsesRequest"),
        ({"model": MODEL, "input": "hi", "previous_response_id": "x"}, "ResponsesRequest"),
        ({"query": "hi"}, "FormFields"),
    ],
)
def test_document_refuses_what_the_service_refuses(value: object, name: str) -> None:
    """A bound that only the service knows is found by the client's users."""
    assert not valid(value, name)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (BASE, "ChatRequest"),
        ({**BASE, "temperature": None, "stop": None}, "ChatRequest"),
        ({"model": MODEL, "input": [{"role": "user", "content": "hi"}]}, "ResponsesRequest"),
        ({"image": "the file"}, "FormFields"),
    ],
)
def test_document_allows_what_the_service_takes(value: object, name: str) -> None:
    """Nulls, and messages without a type."""
    assert valid(value, name)


@pytest.mark.parametrize("kind", [ChatRequest, ResponsesRequest])
def test_document_is_made_of_the_types(kind: type[msgspec.Struct]) -> None:
    """A field that is read and not told, or told and not read."""
    assert list(OPEN["components"]["schemas"][kind.__name__]["properties"]) == list(kind.__struct_fields__)


def test_limits_are_those_of_the_service() -> None:
    """Whoever starts it with other limits gets them told."""
    received = document(ServerLimits(max_images=3, queue=7), MODEL, keyed=False)["info"]["description"]
    assert "3 images" in received
    assert "7 requests" in received


def test_health_is_told_when_it_is_bad_too() -> None:
    """A 503 of the readiness is no error body."""
    queue = {"running": 0, "waiting": 0, "limit": 16}
    ready = {"ready": False, "status": "stuck", "model": "m", "device": "CPU", "queue": queue, "notes": []}
    schema = OPEN["paths"]["/health/ready"]["get"]["responses"]["503"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": OPEN["components"]})
    assert validator.is_valid(ready)
    assert not validator.is_valid({"status": "stuck"})


def test_streams_are_told_as_events() -> None:
    """What fuzzers hold each event against: JSON as text, or the end mark."""
    schema = OPEN["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    chunk, end = schema["properties"]["data"]["anyOf"]
    assert end == {"const": "[DONE]"}
    names = [found["$ref"].rpartition("/")[2] for found in chunk["contentSchema"]["anyOf"]]
    assert names == ["ChatCompletionChunk", "ErrorBody"]


class _Page(html.parser.HTMLParser):
    """What a page loads, and what it runs by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.handlers: list[str] = []
        self.inline = ""
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.handlers += [name for name in given if name.startswith("on")]
        self._script = tag in ("script", "style")
        if tag in ("script", "link"):
            self.loaded.append(given.get("src") or given.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        self.inline += data if self._script else ""


def unpacked(name: str) -> tuple[str, dict[bytes, bytes]]:
    found = asset(name)
    assert found is not None
    return gzip.decompress(found[0]).decode(), dict(found[1])


def test_docs_page_asks_no_other_address() -> None:
    """A kiosk has no network, and a page that loads scripts from elsewhere hands them its key."""
    page = _Page()
    page.feed(unpacked("index.html")[0])
    assert page.loaded
    for place in page.loaded:
        assert place == "data:," or (place.startswith("/docs/") and place.removeprefix("/docs/") in TYPES)
    assert not page.inline.strip()
    assert not page.handlers
    init = unpacked("init.js")[0]
    assert "validatorUrl: null" in init  # else Swagger UI would show the document to a validator elsewhere
    assert not re.search("https?:", init)


@pytest.mark.parametrize("name", sorted(TYPES))
def test_docs_page_runs_files_alone(name: str) -> None:
    """Untrusted text in the document must not become a script."""
    text, headers = unpacked(name)
    assert text
    assert headers[b"content-encoding"] == b"gzip"
    policy = dict(rule.strip().split(" ", 1) for rule in headers[b"content-security-policy"].decode().split(";"))
    assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")


@pytest.mark.parametrize("name", ["", "../docs_page.py", "swagger-ui.LICENSE.txt", "/etc/passwd", "README.md"])
def test_docs_page_has_its_files_alone(name: str) -> None:
    """A name is looked up and never a path."""
    assert asset(name) is None


def test_document_is_small() -> None:
    """It is read by browsers on small machines."""
    assert len(json.dumps(OPEN)) < 150_000
