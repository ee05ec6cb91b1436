"""Rows 11 to 21 of the fault table on the real service: texts, numbers and schemas from untrusted clients."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import pytest

from tests.runtime.server.error_checks import assert_error, still_answers
from tests.runtime.server.http_client import (
    QUESTION,
    Reply,
    chat_request,
    events,
    get,
    image,
    new_image,
    post,
    send_request,
    shelf_request,
)
from tests.runtime.server.running_server import Server

JSON_PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/tokenize")
SCHEMA = "response_format"
SCHEMA_SECONDS = 2.0
"""Limit of row 17."""


@pytest.fixture(autouse=True)
def service_survives(server: Server) -> Iterator[None]:
    with still_answers(server):
        yield


CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|object_ref_start|>",
    "<|box_start|>",
)


@pytest.mark.fault(11)
@pytest.mark.parametrize("token", CONTROL)
def test_control_tokens_in_a_question_are_plain_text(server: Server, token: str) -> None:
    """Row 11, CVE-2026-44222: `<|image_pad|>` without an image killed the worker."""
    counted = post(server, {"prompt": token}, "/v1/tokenize").json
    assert counted["text_tokens"] > 3
    beside = post(server, chat_request(image(), f"{token}{QUESTION}", max_tokens=3))
    assert beside.json["usage"]["prompt_tokens_details"]["image_tokens"] == 64
    alone = post(server, chat_request(token * 3, max_tokens=3))
    assert alone.status == 200
    assert alone.json["usage"]["prompt_tokens"] > 3 * counted["text_tokens"] - 3


@pytest.mark.fault(11)
def test_control_tokens_elsewhere_are_plain_text(server: Server) -> None:
    """Row 11: in other roles, in tools and their results."""
    text = "".join(CONTROL)
    function = {"name": "f", "description": text, "parameters": {"type": "object", "description": text}}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": text})}}
    messages = [
        {"role": "system", "content": text},
        {"role": "user", "content": text},
        {"role": "assistant", "content": text, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": text},
        {"role": "user", "content": QUESTION},
    ]
    tools = [{"type": "function", "function": function}]
    reply = post(server, {"model": "vlrun-tiny", "messages": messages, "tools": tools, "max_tokens": 3})
    assert reply.status == 200
    assert reply.json["usage"]["prompt_tokens_details"]["image_tokens"] == 0


@pytest.mark.fault(12)
@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_is_refused(server: Server, stream: bool) -> None:
    """Row 12: also with ``stream``, as a status."""
    reply = post(server, chat_request("word " * 5000, stream=stream))
    message = assert_error(reply, 400, "context_length_exceeded", "messages")
    assert re.search(r"\d{4} tokens .* context is 4096", message)


@pytest.mark.fault(12)
def test_images_beyond_the_context_are_refused(server: Server) -> None:
    """Row 12: image tokens count too, on every endpoint."""
    reply = post(server, chat_request(*[image()] * 16, "word " * 3500))
    assert_error(reply, 400, "context_length_exceeded", "messages")
    given = {"model": "vlrun-tiny", "input": "word " * 5000, "stream": True}
    assert_error(post(server, given, "/v1/responses"), 400, "context_length_exceeded", "input")


@pytest.mark.fault(12)
@pytest.mark.parametrize("letters", ["x", "瓶子", "👩‍👩‍👧‍👦"], ids=["Latin", "Chinese", "emoji"])
def test_a_megabyte_of_text_does_not_block_others(server: Server, letters: str) -> None:
    """Row 12: the tokenizer held the GIL for up to nine seconds, which stopped every stream and the watchdog."""
    text = letters * (2**20 // len(letters) - 5)
    reply, slowest = post_and_probe(server, chat_request(text))
    assert_error(reply, 400, "context_length_exceeded", "messages")
    assert slowest < 1


def post_and_probe(server: Server, request: object) -> tuple[Reply, float]:
    """Post a request; return the reply and the seconds of the slowest other request meanwhile."""
    slowest = 0.0
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(post, server, request)
        while not reply.done():
            began = time.monotonic()
            assert get(server, "/health/live").status == 200
            slowest = max(slowest, time.monotonic() - began)
    return reply.result(), slowest


NUMBERS: dict[str, tuple[Any, ...]] = {
    "n": (10**9, 9, 0, -1, 1.5, "2", True),
    "max_tokens": (-1, 0, 10**12, 2**70, 1.5, "5", True),
    "max_completion_tokens": (-1, 0, 10**12),
    "temperature": (-0.1, 2.1, 1e300, "1", True),
    "top_p": (2, 0, -1, 1.0001),
    "top_k": (-2, 2**40, 1.5),
    "min_p": (-0.1, 1.1),
    "seed": (2**70, -(2**63) - 1, 2**64, 0.5),
    "presence_penalty": (-2.1, 2.1),
    "frequency_penalty": (-2.1, 2.1),
    "repetition_penalty": (0, -1, 1e9),
    "top_logprobs": (10**6, 21, -1),
    "logprobs": (10**6, "yes"),
    "stop": ([None], [str(number) for number in range(10**4)], "x" * 10**5, 5, {}),
}
"""Rows 13 to 16: invalid values of each field."""
FIELDS = [(name, value) for name, values in NUMBERS.items() for value in values]


@pytest.mark.fault(13, 14, 15, 16)
@pytest.mark.parametrize(("name", "value"), FIELDS, ids=lambda value: str(value)[:12])
def test_a_value_out_of_bounds_is_refused(server: Server, name: str, value: Any) -> None:
    """Rows 13 to 16, CVE-2026-34756 (`n`), CVE-2026-93989 (out of range)."""
    reply = post(server, chat_request("Hello", **{name: value}))
    error = reply.json["error"]
    assert error["param"] in (name, f"{name}[0]")
    assert_error(reply, 400, error["code"], error["param"])


@pytest.mark.fault(14)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("name", ["temperature", "top_p", "seed", "n"])
def test_numbers_that_are_not_finite_are_refused(server: Server, name: str, number: str) -> None:
    """Row 14: Python's parser accepts them, and NaN passes any comparison with bounds."""
    body = json.dumps(chat_request("Hello", **{name: "?"})).replace('"?"', number)
    assert_error(post(server, body.encode()), 400, "invalid_json")


UNSUPPORTED: dict[str, Any] = {
    "min_tokens": 10,
    "logit_bias": {"99999999": 5},
    "bad_words": ["x"],
    "allowed_token_ids": [10**9],
    "prompt_logprobs": 10**6,
    "chat_template": "{{ ''.__class__.__mro__ }}",
    "mm_processor_kwargs": {"max_pixels": 10**12},
    "media_io_kwargs": {"video": {"num_frames": 10**9}},
    "guided_regex": "(a+)+b",
    "use_beam_search": True,
}


@pytest.mark.fault(18)
def test_variables_of_the_chat_template_are_refused_by_name(server: Server) -> None:
    request = chat_request("Hello", max_tokens=5, chat_template_kwargs={"messages": []})
    assert_error(post(server, request), 400, "unknown_parameter", "chat_template_kwargs.messages")


@pytest.mark.fault(13, 15, 18)
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_field_is_refused_by_name(server: Server, name: str) -> None:
    """Rows 13, 15 and 18, CVE-2026-114051 (`min_tokens` above `max_tokens`), CVE-2024-34359, CVE-2026-5760 (templates),
    CVE-2026-105758: neither used nor ignored.
    """
    given = {name: UNSUPPORTED[name]}
    assert_error(post(server, chat_request("Hello", max_tokens=5, **given)), 400, "unsupported_parameter", name)
    code = "unknown_parameter" if name == "logit_bias" else "unsupported_parameter"  # only chat completions have it
    others = {"/v1/tokenize": {"prompt": "Hello"}, "/v1/responses": {"model": "vlrun-tiny", "input": "Hello"}}
    for path, request in others.items():
        assert_error(post(server, {**request, **given}, path), 400, code, name)


@pytest.mark.fault(15, 16)
@pytest.mark.parametrize("name", ["logit_bias", "bad_words", "stop"])
def test_a_million_entries_are_refused_quickly(server: Server, name: str) -> None:
    """Rows 15 and 16."""
    many: Any = {str(number): 1 for number in range(10**6)} if name == "logit_bias" else ["x"] * 10**6
    body = json.dumps(chat_request("Hello", **{name: many})).encode()
    began = time.monotonic()
    assert_error(post(server, body), 400, "invalid_json")
    assert time.monotonic() - began < 2


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}
    return schema


def object_with_pattern(pattern: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}, "required": ["a"]}


def with_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return shelf_request(
        max_tokens=3, response_format={"type": SCHEMA_TYPE, SCHEMA_TYPE: {"name": "x", "schema": schema}}
    )


SCHEMA_TYPE = "json_schema"
REFUSED_SCHEMAS = {
    "30 levels": nested(30),
    "an endless reference": {"$ref": "#"},
    "two that refer to each other": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    },
    "an unknown type": {"type": "nonsense"},
    "too many values": {"type": "object", "properties": {f"a{number}": {"type": "string"} for number in range(2000)}},
    "too many repetitions": object_with_pattern("(a{1,1000}){1,1000}"),
    "a look-ahead": object_with_pattern("(?=a)b"),
    "a reference back": object_with_pattern(r"(a)\1"),
    "no pattern at all": object_with_pattern("(("),
    "a long pattern": object_with_pattern("a" * 3000),
    "a key with a path": object_with_pattern("((")
    | {"properties": {"/etc/passwd" * 100: {"type": "string", "pattern": "(("}}},
}


@pytest.mark.fault(17)
@pytest.mark.parametrize("name", REFUSED_SCHEMAS)
def test_an_unsupported_schema_is_refused_in_time(server: Server, name: str) -> None:
    """Row 17. OpenVINO Model Server ignores schemas that do not compile."""
    began = time.monotonic()
    for stream in (False, True):
        reply = post(server, {**with_schema(REFUSED_SCHEMAS[name]), "stream": stream})
        assert_error(reply, 400, "invalid_schema", SCHEMA, quoted="/etc/passwd")
    assert time.monotonic() - began < 2 * SCHEMA_SECONDS


@pytest.mark.fault(17)
def test_a_schema_over_the_json_depth_is_refused(server: Server) -> None:
    """Row 17: 200 levels never reach the schema compiler."""
    assert_error(post(server, with_schema(nested(200))), 400, "invalid_json")


PATTERNS = ("(a+)+b", "^(a+)+$", "(a|a)*b", "(.*)*x", "(a|b|ab)*c", r"^(([a-z])+.)+[A-Z]([a-z])+$", "([a-zA-Z]+)*")


@pytest.mark.fault(17)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_exponential_pattern_is_matched_in_time(server: Server, pattern: str) -> None:
    """Row 17, CVE-2026-55574: an automaton matches any pattern in linear time; others are served meanwhile."""
    began = time.monotonic()
    reply, slowest = post_and_probe(server, with_schema(object_with_pattern(pattern)))
    assert reply.status == 200
    assert time.monotonic() - began < SCHEMA_SECONDS
    assert slowest < 0.5


INVALID_JSON = {
    "nested arrays": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "15 MB of closing brackets": b"]" * (15 * 2**20),
    "nested, 100 levels": b'{"model":"vlrun-tiny","messages":' + b"[" * 100 + b"]" * 100 + b"}",
    "a number of 100,000 digits": b'{"model":"vlrun-tiny","messages":[],"n":' + b"9" * 100_000 + b"}",
    "a fraction of 100,000 digits": b'{"model":"vlrun-tiny","messages":[],"top_p":0.' + b"9" * 100_000 + b"}",
    "a name twice": b'{"model":"vlrun-tiny","model":"vlrun-tiny","messages":[{"role":"user","content":"x"}]}',
    "a name twice, once escaped": b'{"model":"vlrun-tiny","mod\\u0065l":"x","messages":[]}',
    "half a surrogate pair": b'{"model":"vlrun-tiny","messages":[{"role":"user","content":"\\ud800"}]}',
    "the other half": b'{"model":"vlrun-tiny","messages":[{"role":"user","content":"\\udc00\\ud800"}]}',
    "a NUL in a text": b'{"model":"vlrun-tiny","messages":[{"role":"user","content":"a\\u0000b"}]}',
    "a NUL in the JSON": b'{"model":"vlrun-tiny",\0"messages":[]}',
    "invalid UTF-8": b'{"model":"vlrun-tiny","messages":[{"role":"user","content":"\xff\xfe"}]}',
    "a surrogate in UTF-8": b'{"model":"vlrun-tiny","messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
    "UTF-16": '{"model":"vlrun-tiny"}'.encode("utf-16"),
    "a comment": b'{"model":"vlrun-tiny" /* x */}',
    "two values": b"{}{}",
    "nothing": b"",
    "white space": b" \n",
    "a form's bytes": b"image=1&query=2",
}


@pytest.mark.fault(19)
@pytest.mark.parametrize("name", INVALID_JSON)
@pytest.mark.parametrize("path", JSON_PATHS)
def test_invalid_or_hostile_json_is_refused(server: Server, path: str, name: str) -> None:
    """Row 19: RecursionError is not a ValueError, and a lone surrogate fails only in the tokenizer."""
    began = time.monotonic()
    assert_error(post(server, INVALID_JSON[name], path), 400, "invalid_json")
    assert time.monotonic() - began < 2


USER = {"role": "user", "content": "x"}
SHAPES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no messages": ({"messages": ...}, "messages", "missing_required_parameter"),
    "null messages": ({"messages": None}, "messages", "invalid_type"),
    "messages as text": ({"messages": "x"}, "messages", "invalid_type"),
    "messages as an object": ({"messages": {}}, "messages", "invalid_type"),
    "no message": ({"messages": []}, "messages", "invalid_value"),
    "a null message": ({"messages": [None]}, "messages[0]", "invalid_type"),
    "no role": ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
    "another role": ({"messages": [{**USER, "role": "wizard"}]}, "messages[0].role", "invalid_value"),
    "a role as a number": ({"messages": [{**USER, "role": 5}]}, "messages[0].role", "invalid_type"),
    "no content": ({"messages": [USER, {"role": "user"}]}, "messages[1].content", "missing_required_parameter"),
    "null content": ({"messages": [{**USER, "content": None}]}, "messages[0].content", "invalid_type"),
    "empty content": ({"messages": [{**USER, "content": []}]}, "messages[0].content", "invalid_value"),
    "content as a number": ({"messages": [{**USER, "content": 5}]}, "messages[0].content", "invalid_type"),
    "a part as a number": ({"messages": [{**USER, "content": [5]}]}, "messages[0].content[0]", "invalid_type"),
    "a part without a type": (
        {"messages": [{**USER, "content": [{"text": "x"}]}]},
        "messages[0].content[0].type",
        "missing_required_parameter",
    ),
    "a part of another type": (
        {"messages": [{**USER, "content": [{"type": "input_audio", "input_audio": {}}]}]},
        "messages[0].content[0].type",
        "invalid_value",
    ),
    "an unknown field": ({"nonsense": 1}, "nonsense", "unknown_parameter"),
    "an unknown field within": ({"messages": [{**USER, "x": 1}]}, "messages[0].x", "unknown_parameter"),
    "stream as text": ({"stream": "yes"}, "stream", "invalid_type"),
    "a result without a call": (
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
        "messages[0].tool_call_id",
        "invalid_value",
    ),
    "513 messages": ({"messages": [USER] * 513}, "messages", "invalid_value"),
    "too much text": ({"messages": [{**USER, "content": "x" * (2**20 + 1)}]}, "messages[0].content", "invalid_value"),
}


@pytest.mark.fault(20)
@pytest.mark.parametrize("name", SHAPES)
def test_a_wrong_shape_is_refused_with_its_field(server: Server, name: str) -> None:
    """Row 20."""
    given, param, code = SHAPES[name]
    request = {field: value for field, value in {**chat_request("x"), **given}.items() if value is not ...}
    assert_error(post(server, request), 400, code, param, quoted="wizard")


@pytest.mark.fault(20)
@pytest.mark.parametrize("body", [b"null", b"5", b'"x"', b"[]", b"true"])
@pytest.mark.parametrize("path", JSON_PATHS)
def test_json_that_is_not_an_object_is_refused(server: Server, path: str, body: bytes) -> None:
    """Row 20."""
    assert_error(post(server, body, path), 400, "invalid_type")


@pytest.mark.fault(21)
@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "x" * 2**20, "gpt-4o", "", "VLRUN-TINY", "vlrun-tiny\n"])
def test_another_model_is_not_found(server: Server, name: str) -> None:
    """Row 21: no path traversal, and the message repeats at most 64 characters of the name."""
    quoted = json.dumps(name[:64])
    for path in JSON_PATHS:
        content = {"input": "x"} if path == "/v1/responses" else {"messages": [USER]}
        assert_error(post(server, {"model": name} | content, path), 404, "model_not_found", "model", quoted)


@pytest.mark.fault(21)
@pytest.mark.parametrize("name", ["..%2f..%2fx", "../../x", "x" * 4000, "%00", "%ff%fe", "VLRUN-TINY", ""])
def test_another_model_is_not_found_by_its_path(server: Server, name: str) -> None:
    """Row 21: as above, the message repeats the name and nothing else with a slash."""
    quoted = json.dumps(unquote(name)[:64])
    assert_error(get(server, f"/v1/models/{name}"), 404, "model_not_found", "model", quoted)


def test_invalid_requests_do_not_disturb_a_running_stream(server: Server) -> None:
    response = send_request(server, chat_request(new_image(), "Describe this image.", stream=True)).getresponse()
    for body in (
        *INVALID_JSON.values(),
        *(json.dumps(with_schema(schema)).encode() for schema in REFUSED_SCHEMAS.values()),
    ):
        assert post(server, body).status == 400
    assert list(events(response))[-1] == "[DONE]"
