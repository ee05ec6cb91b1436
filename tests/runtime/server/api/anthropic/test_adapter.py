"""Answers and streams in Anthropic's format: documented, and both say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.runtime.server.api.test_answers import CALLS, answer, assert_documented, chunks
from vlrun.models.qwen3_vl.tool_calls import TOOL_CALLS
from vlrun.server.api.anthropic.adapter import AnthropicAdapter
from vlrun.server.api.anthropic.models import model_list
from vlrun.server.api.anthropic.parsing import ParsedRequest
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.generation_request import AnswerChunk, GenerationRequest, RequestMessage
from vlrun.types.answer import Answer, Chunk, Progress

TOOL = {"type": "function", "function": {"name": "weather"}}


def adapter(tools: bool = False, shows: bool = True) -> AnthropicAdapter:
    request = GenerationRequest((RequestMessage("user", ("hi",)),), tools=(TOOL,) if tools else ())
    return AnthropicAdapter(ParsedRequest(request, shows), "tiny", TOOL_CALLS)


def whole(given: Answer, **more: bool) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(adapter(**more).whole([given]))
    assert_documented(value, "AnthropicAnswer")
    return value


def events(raw: list[bytes]) -> list[dict[str, Any]]:
    """The events, each named like its type."""
    values = []
    for one in b"".join(raw).decode().split("\n\n")[:-1]:
        name, _, data = one.partition("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        values.append(value)
    return values


def streamed(given: Answer, **more: bool) -> list[dict[str, Any]]:
    made, usage = adapter(**more), given.usage
    phases = (Progress("vision", 4, 4), *(Progress("prefill", done, usage.prompt_tokens) for done in (16, 32)))
    pieces = [*(Chunk("", progress=progress) for progress in phases), *chunks(given)]
    raw = [*made.begin(), *(e for piece in pieces for e in made.events(AnswerChunk(0, piece)))]
    values = events([*raw, *made.end([given])])
    for value in values:
        assert_documented(value, "AnthropicEvent")
    return values


def assembled(values: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client makes of a stream. Fails for events out of order."""
    message: dict[str, Any] = values[0]["message"]
    assert [value["type"] for value in (values[0], *values[-2:])] == ["message_start", "message_delta", "message_stop"]
    opened: dict[str, Any] | None = None
    arguments = ""
    for value in values[1:-2]:
        match value["type"]:
            case "content_block_start":
                assert opened is None
                opened, arguments = value["content_block"], ""
                assert value["index"] == len(message["content"])
                message["content"].append(opened)
            case "content_block_delta":
                assert opened is not None
                assert value["index"] == len(message["content"]) - 1
                delta = value["delta"]
                kind = delta["type"].removesuffix("_delta")
                if kind == "input_json":
                    arguments += delta["partial_json"]
                    opened["input"] = json.loads(arguments)
                else:
                    opened[kind] += delta[kind]
            case "content_block_stop":
                assert value["index"] == len(message["content"]) - 1
                opened = None
            case kind:
                assert kind == "ping"
    assert opened is None
    ended = {name: values[-2]["delta"][name] for name in ("stop_reason", "stop_sequence")}
    extra = {"vlrun": values[-2]["vlrun"]} if "vlrun" in values[-2] else {}
    return {**message, **ended, "usage": {**message["usage"], **values[-2]["usage"]}, **extra}


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    content = [{name: member for name, member in block.items() if name != "id"} for block in message["content"]]
    return {**message, "id": "", "content": content}


def test_a_message() -> None:
    received = whole(answer("6 bottles"))
    assert received["content"] == [{"type": "text", "text": "6 bottles", "citations": None}]
    assert (received["stop_reason"], received["stop_sequence"]) == ("end_turn", None)
    usage = received["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (24, 16, 5)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (answer(), "end_turn"),
        (answer(reason="length"), "max_tokens"),
        (answer(reason="repetition"), "max_tokens"),
        (answer(stop="END"), "stop_sequence"),
    ],
)
def test_reasons(given: Answer, reason: str) -> None:
    assert whole(given)["stop_reason"] == reason
    assert whole(given)["stop_sequence"] == given.stop


def test_calls_are_blocks() -> None:
    received = whole(answer(CALLS), tools=True)
    assert received["stop_reason"] == "tool_use"
    text, first, second = received["content"]
    assert text["text"] == "Let me see."
    assert (first["name"], first["input"]) == ("weather", {"city": "Bergen"})
    assert (second["name"], second["input"]) == ("clock", {})
    assert first["id"] != second["id"]


REASONED = answer("Six.", reasoning="I count\nthem.")
ANSWERS = {
    "text": (answer("6 bottles"), {}),
    "reasoning": (REASONED, {}),
    "hidden reasoning": (REASONED, {"shows": False}),
    "calls": (answer(CALLS), {"tools": True}),
    "only a call": (answer(CALLS.partition(". ")[2]), {"tools": True}),
    "reasoning and calls": (answer(CALLS, reasoning="I ask."), {"tools": True}),
    "nothing": (answer(""), {}),
    "only reasoning": (answer("", "length", reasoning="I count"), {}),
    "only hidden reasoning": (answer("", "length", reasoning="I count"), {"shows": False}),
    "stopped": (answer("one", stop="two"), {}),
    "a loop": (answer("6 6 6", "repetition"), {}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_becomes_the_whole_answer(name: str) -> None:
    given, more = ANSWERS[name]
    complete = whole(given, **more)
    assert without_ids(assembled(streamed(given, **more))) == without_ids(complete)
    assert complete["content"], "clients read the first block"


def test_hidden_reasoning_is_not_sent() -> None:
    assert "count" not in json.dumps([whole(REASONED, shows=False), streamed(REASONED, shows=False)])


def test_a_stream_begins_with_the_tokens_of_its_prompt() -> None:
    """`message_start` had 0 of them, and clients that show the costs while they stream take the number from there."""
    begun, *_, ended, _ = streamed(answer())
    usage = begun["message"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (24, 16, 0)
    assert usage == {**ended["usage"], "output_tokens": 0, "output_tokens_details": {"thinking_tokens": 0}}


def test_nothing_but_comments_is_sent_before_the_message() -> None:
    """An event before `message_start` would confuse clients."""
    made = adapter()
    assert made.begin() == []
    assert made.events(AnswerChunk(0, Chunk("", notes=("reduced",)))) == []
    assert made.events(AnswerChunk(0, Chunk("", progress=Progress("vision", 1, 2)))) == []
    assert made.waiting(None).startswith(b":")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_errors_have_anthropics_types(status: int, kind: str) -> None:
    error = ApiError(status, "it failed")
    body = json.loads(error.body("anthropic"))
    assert_documented(body, "AnthropicErrorBody")
    assert body == {"type": "error", "error": {"type": kind, "message": "it failed"}}
    assert dict(error.all_headers("anthropic"))["content-length"] == str(len(error.body("anthropic")))


def test_an_error_is_the_last_event() -> None:
    (raw,) = adapter().failed(bad_request("the prompt has 9 tokens"))
    assert raw.startswith(b"event: error\n")
    assert events([raw])[0]["error"]["message"] == "the prompt has 9 tokens"


def test_the_list_of_models() -> None:
    listed = model_list(("tiny", "qwen3-vl-2b"), 1.8e9, 4096)
    assert [model["id"] for model in listed["data"]] == ["tiny", "qwen3-vl-2b"]
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("tiny", "qwen3-vl-2b", False)
    assert listed["data"][0]["created_at"] == "2027-01-15T08:00:00Z"
