"""Answers and streams in Ollama's format: its client's types accept them, and both say the same."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from ollama import ChatResponse, GenerateResponse

from tests.runtime.server.api.test_answers import CALLS, TOKENS, answer, assert_documented, chunks
from vlrun.models.qwen3_vl.tool_calls import TOOL_CALLS
from vlrun.server.api.ollama.adapter import OllamaAdapter
from vlrun.server.api.ollama.parsing import ParsedRequest
from vlrun.server.api_errors import bad_request
from vlrun.server.generation_request import AnswerChunk, GenerationRequest, RequestMessage
from vlrun.types.answer import Answer, Chunk, Progress

SCHEMAS = {"message": "OllamaChatAnswer", "response": "OllamaPromptAnswer"}
TOOL = {"type": "function", "function": {"name": "weather"}}


def adapter(kind: Literal["message", "response"] = "message", tools: bool = False) -> OllamaAdapter:
    request = GenerationRequest((RequestMessage("user", ("hi",)),), tools=(TOOL,) if tools else ())
    return OllamaAdapter(ParsedRequest(request, "tiny:latest"), TOOL_CALLS, kind)


def whole(given: Answer, kind: Literal["message", "response"] = "message", tools: bool = False) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(adapter(kind, tools).whole([given]))
    assert_documented(value, SCHEMAS[kind])
    return value


def streamed(given: Answer, kind: Literal["message", "response"] = "message", tools: bool = False) -> list[Any]:
    """The lines of the stream. A line break within one would end it for clients."""
    made = adapter(kind, tools)
    events = [*made.begin(), *(e for piece in chunks(given) for e in made.events(AnswerChunk(0, piece)))]
    lines = b"".join([*events, *made.end([given])]).decode().splitlines()
    values = [json.loads(line) for line in lines]
    for value in values:
        assert_documented(value, SCHEMAS[kind])
    assert [value["done"] for value in values] == [False] * (len(values) - 1) + [True]
    return values


def test_a_chat() -> None:
    received = whole(answer("6 bottles"))
    assert received["message"] == {"role": "assistant", "content": "6 bottles"}
    assert received["model"] == "tiny:latest"
    assert (received["done"], received["done_reason"]) == (True, "stop")
    assert (received["prompt_eval_count"], received["eval_count"]) == (40, 5)
    assert received["load_duration"] == 9_000_000_000
    assert received["total_duration"] == 10_500_000_000
    assert received["prompt_eval_duration"] == 700_000_000
    assert received["eval_duration"] == 500_000_000
    assert ChatResponse(**received).message.content == "6 bottles"


def test_a_prompt() -> None:
    received = whole(answer("6 bottles"), "response")
    assert received["response"] == "6 bottles"
    assert "message" not in received
    assert GenerateResponse(**received).eval_count == 5


@pytest.mark.parametrize(("reason", "expected"), [("stop", "stop"), ("length", "length"), ("repetition", "length")])
def test_reasons(reason: Any, expected: str) -> None:
    assert whole(answer(reason=reason))["done_reason"] == expected
    assert streamed(answer(reason=reason))[-1]["done_reason"] == expected


@pytest.mark.parametrize("kind", ["message", "response"])
def test_streams_have_the_text_of_whole_answers(kind: Literal["message", "response"]) -> None:
    given = answer("Six bottles\nand a can.", reasoning="I count them.", logprobs=TOKENS)
    complete, lines = whole(given, kind), streamed(given, kind)
    parts = [line["message"] if kind == "message" else line for line in lines]
    content = "content" if kind == "message" else "response"
    joined = {name: "".join(part.get(name, "") for part in parts) for name in (content, "thinking")}
    expected = complete["message"] if kind == "message" else complete
    assert joined == {name: expected[name] for name in (content, "thinking")}
    counts = complete.keys() - {"created_at", "message", "response", "thinking", "logprobs", "eval_duration"}
    assert {name: lines[-1][name] for name in counts} == {name: complete[name] for name in counts}
    assert [token for line in lines for token in line.get("logprobs", ())] == complete["logprobs"]


def test_calls_have_their_arguments_as_an_object() -> None:
    """OpenAI has them as text, Ollama as an object; a call is in a line of its own."""
    received = whole(answer(CALLS), tools=True)
    functions = [call["function"] for call in received["message"]["tool_calls"]]
    assert functions == [
        {"index": 0, "name": "weather", "arguments": {"city": "Bergen"}},
        {"index": 1, "name": "clock", "arguments": {}},
    ]
    assert received["message"]["content"] == "Let me see."
    calls = [call for line in streamed(answer(CALLS), tools=True) for call in line["message"].get("tool_calls", ())]
    assert [call["function"] for call in calls] == functions
    assert ChatResponse(**received).message.tool_calls


def test_a_call_with_line_breaks_stays_one_line() -> None:
    """The model may indent its arguments."""
    text = '<tool_call>\n{"name": "weather", "arguments": {\n "city": "Bergen"\n}}\n</tool_call>'
    assert len(streamed(answer(text), tools=True)) == 2


def test_without_messages_the_model_is_loaded() -> None:
    empty = OllamaAdapter(ParsedRequest(GenerationRequest(()), "tiny"), TOOL_CALLS, "response")
    received = json.loads(empty.whole([]))
    assert_documented(received, "OllamaPromptAnswer")
    assert (received["response"], received["done"], received["done_reason"]) == ("", True, "load")


def test_a_stream_that_waits_has_lines_without_text() -> None:
    """NDJSON has no comments, and clients fail on empty lines."""
    line = adapter().waiting(None)
    assert line.endswith(b"}\n")
    assert json.loads(line)["message"] == {"role": "assistant", "content": ""}
    assert adapter().waiting(Progress("vision", 1, 2)) == b""
    assert adapter().events(AnswerChunk(0, Chunk("", progress=Progress("vision", 1, 2)))) == []


def test_an_error_is_the_last_line() -> None:
    (line,) = adapter().failed(bad_request("the prompt has 9 tokens"))
    assert json.loads(line) == {"error": "the prompt has 9 tokens"}
    assert line.endswith(b"\n")


def test_durations_are_never_zero() -> None:
    """Clients divide by them."""
    received = whole(answer("6"))
    assert all(received[name] > 0 for name in received if name.endswith("_duration"))
