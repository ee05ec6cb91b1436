"""Whole and streamed answers match OpenAI's schema, our OpenAPI document, and each other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.runtime.server.openai_schema import check
from vlrun.models.qwen3_vl.tool_calls import TOOL_CALLS
from vlrun.server.api.chat import ChatAdapter
from vlrun.server.api.forms import FormAdapter
from vlrun.server.api.openapi import document
from vlrun.server.api.responses import ResponsesAdapter
from vlrun.server.api.tokenize import token_count
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.generation_request import AnswerChunk, GenerationRequest, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.answer import Answer, Chunk, FinishReason, Progress, Timings, TokenLogprob, Usage

USAGE = Usage(prompt_tokens=40, image_tokens=30, cached_tokens=16, completion_tokens=5, forward_passes=3)
TIMINGS = Timings(load=9, preprocess=0.1, queue=0.2, vision=0.3, prefill=0.4, ttft=1.0, tpot=None, total=1.5)
TOP = (TokenLogprob("6", -0.1, b"6"), TokenLogprob("\ufffd", -2.5, b"\xe4"))
TOKENS = (TokenLogprob("6", -0.1, b"6", TOP), TokenLogprob("\ufffd", -2.5, b"\xe4", TOP))
CALLS = (
    'Let me see. <tool_call>\n{"name": "weather", "arguments": {"city": "Bergen"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
)
DOCUMENT = document(ServerLimits(), "vlrun-tiny", keyed=False)
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def answer(text: str = "6 bottles", reason: FinishReason = "stop", **more: Any) -> Answer:
    return Answer(text, reason, USAGE, TIMINGS, **more)


def chunks(whole: Answer, size: int = 3) -> list[Chunk]:
    """The answer as chunks of ``size`` characters, each with the log probabilities of one token."""
    pieces = [whole.text[start : start + size] for start in range(0, len(whole.text), size)]
    tokens = [whole.logprobs[i : i + 1] for i in range(len(pieces))]
    streamed = [Chunk(piece, logprobs=logprobs) for piece, logprobs in zip(pieces, tokens, strict=True)]
    parts = [whole.reasoning[start : start + size] for start in range(0, len(whole.reasoning), size)]
    thought = [Chunk("", reasoning=part) for part in parts]
    return [*thought, *streamed, Chunk("", answer=whole, logprobs=whole.logprobs[len(pieces) :])]


def chat_adapter(tools: bool = False, **more: Any) -> ChatAdapter:
    given = ({"type": "function", "function": {"name": "weather"}},) if tools else ()
    return ChatAdapter(
        GenerationRequest((RequestMessage("user", ("hi",)),), tools=given, **more), "vlrun-tiny", TOOL_CALLS
    )


def assert_documented(value: Any, name: str) -> None:
    """Fail unless the value matches our OpenAPI document, without undocumented fields."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(value)]
    assert not errors
    assert set(value) <= set(DOCUMENT["components"]["schemas"][name].get("properties", value))


def completion(adapter: ChatAdapter, *answers: Answer) -> dict[str, Any]:
    value = json.loads(adapter.whole(answers))
    assert_documented(value, "ChatCompletion")
    return check(value, "CreateChatCompletionResponse")


def only_choice(adapter: ChatAdapter, whole: Answer) -> dict[str, Any]:
    (choice,) = completion(adapter, whole)["choices"]
    return choice


def data(events: list[bytes], schema: str) -> list[dict[str, Any]]:
    """The JSON data of a stream's events, validated."""
    lines = b"".join(events).decode().splitlines()
    parsed = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    values = [json.loads(line) for line in parsed if line != "[DONE]"]
    for value in values:
        assert_documented(value, "ResponseEvent" if schema == "ResponseStreamEvent" else "ChatCompletionChunk")
    return [check(value, schema) for value in values]


def chat_chunks(adapter: ChatAdapter, whole: Answer) -> list[dict[str, Any]]:
    events = [event for chunk in chunks(whole) for event in adapter.events(AnswerChunk(0, chunk))]
    return data([*adapter.begin(), *events, *adapter.end([whole])], "CreateChatCompletionStreamResponse")


def responses_adapter(**more: Any) -> ResponsesAdapter:
    return ResponsesAdapter.read(
        json.dumps({"model": "m", "input": "hi", **more}).encode(), ["m"], ServerLimits(), TOOL_CALLS
    )


def response(adapter: ResponsesAdapter, whole: Answer) -> dict[str, Any]:
    value = json.loads(adapter.whole([whole]))
    assert_documented(value, "Response")
    return check(value, "Response")


def response_events(adapter: ResponsesAdapter, whole: Answer) -> list[dict[str, Any]]:
    first = adapter.begin()
    events = [event for chunk in chunks(whole) for event in adapter.events(AnswerChunk(0, chunk))]
    checked = data([*first, *events, *adapter.end([whole])], "ResponseStreamEvent")
    names = [line for line in b"".join(events).decode().splitlines() if line.startswith("event: ")]
    assert [f"event: {event['type']}" for event in checked][2:] == names
    assert [event["sequence_number"] for event in checked] == list(range(len(checked)))
    return checked


def test_completion_matches_openais_schema() -> None:
    """A missing field, or null where OpenAI does not allow it, breaks typed clients."""
    received = completion(chat_adapter(), answer(logprobs=TOKENS), answer("7"))
    first, second = received["choices"]
    assert first["message"] == {"role": "assistant", "content": "6 bottles", "refusal": None}
    assert first["logprobs"]["content"][1]["bytes"] == [0xE4]
    assert [top["token"] for top in first["logprobs"]["content"][0]["top_logprobs"]] == ["6", "\ufffd"]
    assert second["logprobs"] is None
    assert second["index"] == 1


def test_usage_counts_the_prompt_once_and_adds_the_answers() -> None:
    """With several answers, usage once counted the prompt of each."""
    usage = completion(chat_adapter(), answer(), answer())["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (40, 10, 50)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 16, "image_tokens": 30}


def test_timings_have_no_load_time() -> None:
    received = completion(chat_adapter(), answer())
    assert received["timings"] == {
        "preprocess": 0.1,
        "queue": 0.2,
        "vision": 0.3,
        "prefill": 0.4,
        "ttft": 1.0,
        "tpot": None,
        "total": 1.5,
        "schema": 0.0,
    }


@pytest.mark.parametrize(("ours", "theirs"), [("stop", "stop"), ("length", "length"), ("repetition", "length")])
def test_finish_reasons_map_to_openais(ours: FinishReason, theirs: str) -> None:
    """OpenAI has no ``repetition``; it is in the ``vlrun`` extension."""
    choice = only_choice(chat_adapter(), answer(reason=ours))
    assert choice["finish_reason"] == theirs
    assert choice.get("vlrun", {}).get("finish_reason") == ("repetition" if ours == "repetition" else None)


def test_notes_about_images_are_in_the_answer() -> None:
    choice = only_choice(chat_adapter(), answer(notes=("adapter smaller",)))
    assert choice["vlrun"] == {"notes": ["adapter smaller"]}


def test_tool_calls_are_removed_from_the_text() -> None:
    choice = only_choice(chat_adapter(tools=True), answer(CALLS))
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    first, second = choice["message"]["tool_calls"]
    assert first["function"] == {"name": "weather", "arguments": '{"city": "Bergen"}'}
    assert first["id"] != second["id"]


def test_without_tools_a_call_stays_in_the_text() -> None:
    """A client that sent no tools would get an empty answer."""
    choice = only_choice(chat_adapter(), answer(CALLS))
    assert choice["message"]["content"] == CALLS
    assert choice["finish_reason"] == "stop"
    assert "tool_calls" not in choice["message"]


def test_content_is_null_if_there_are_only_calls() -> None:
    choice = only_choice(chat_adapter(tools=True), answer(CALLS.partition(" ")[2][7:]))
    assert choice["message"]["content"] is None


@pytest.mark.parametrize("tools", [False, True])
@pytest.mark.parametrize("text", ["", "6 bottles, and <tool", CALLS, "<tool_call>{no call"])
def test_streamed_completion_equals_the_whole(tools: bool, text: str) -> None:
    """Text, calls and log probabilities, wherever chunks are cut."""
    whole = answer(text, logprobs=TOKENS)
    adapter = chat_adapter(tools)
    received = [chunk["choices"][0] for chunk in chat_chunks(adapter, whole)]
    expected = only_choice(adapter, whole)
    assert "".join(choice["delta"].get("content", "") for choice in received) == (expected["message"]["content"] or "")
    calls = [call for choice in received for call in choice["delta"].get("tool_calls", [])]
    assert [call.pop("index") for call in calls] == list(range(len(calls)))
    assert calls == expected["message"].get("tool_calls", [])
    tokens = [token for choice in received if choice["logprobs"] for token in choice["logprobs"]["content"]]
    assert tokens == expected["logprobs"]["content"]
    assert [choice["finish_reason"] for choice in received if choice["finish_reason"]] == [expected["finish_reason"]]


def test_choices_of_a_stream_do_not_mix() -> None:
    """Text that may become a call was once held back for all choices together."""
    adapter, texts = chat_adapter(tools=True, n=2), {0: "", 1: ""}
    name = "CreateChatCompletionStreamResponse"
    assert [chunk["choices"][0]["index"] for chunk in data(adapter.begin(), name)] == [0, 1]
    for index, text in [(0, "a<tool"), (1, "b"), (0, "_x"), (1, "c")]:
        for chunk in data(adapter.events(AnswerChunk(index, Chunk(text))), name):
            texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["delta"]["content"]
    assert texts == {0: "a<tool_x", 1: "bc"}


def test_only_the_last_chunk_has_timings() -> None:
    received = chat_chunks(chat_adapter(), answer())
    assert [("timings" in chunk, "usage" in chunk) for chunk in received[-2:]] == [(False, False), (True, False)]


def test_usage_is_null_until_the_last_chunk() -> None:
    """With ``include_usage``, OpenAI's clients expect it in a last chunk without choices."""
    received = chat_chunks(chat_adapter(include_usage=True), answer())
    assert all(chunk["usage"] is None for chunk in received[:-1])
    assert received[-1]["choices"] == []
    assert received[-1]["usage"]["total_tokens"] == 45


def test_a_stream_has_the_notes_before_the_text() -> None:
    """Guards against a reduced image that the client heard of after the answer."""
    step = AnswerChunk(0, Chunk("", notes=("limited to 1,024 visual tokens",)))
    (received,) = data(chat_adapter().events(step), "CreateChatCompletionStreamResponse")
    (choice,) = received["choices"]
    assert choice["vlrun"] == {"notes": ["limited to 1,024 visual tokens"]}
    assert choice["delta"] == {}


def test_progress_is_sent_only_on_request() -> None:
    """Clients that do not know it must not get chunks without choices."""
    step = AnswerChunk(0, Chunk("", progress=Progress("vision", 64, 256)))
    assert chat_adapter().events(step) == []
    (received,) = data(chat_adapter(include_progress=True).events(step), "CreateChatCompletionStreamResponse")
    assert received["vlrun"] == {"progress": {"phase": "vision", "done": 64, "total": 256, "percent": 25}}
    assert received["choices"] == []


def test_response_matches_openais_schema() -> None:
    """A missing field breaks typed clients; many fields repeat the request."""
    schema = {"type": "json_schema", "name": "count", "schema": {"type": "object"}}
    adapter = responses_adapter(
        instructions="Be brief.",
        metadata={"a": "b"},
        temperature=0.5,
        tools=[TOOL],
        tool_choice={"type": "function", "name": "weather"},
        text={"format": schema},
        store=True,
    )
    received = response(adapter, answer(logprobs=TOKENS))
    assert received["status"] == "completed"
    assert received["output"][0]["content"][0]["text"] == "6 bottles"
    assert len(received["output"][0]["content"][0]["logprobs"]) == 2
    assert received["usage"]["input_tokens_details"]["cached_tokens"] == 16
    assert (received["instructions"], received["metadata"], received["store"]) == ("Be brief.", {"a": "b"}, False)
    assert received["text"] == {"format": schema}
    assert received["tool_choice"] == {"type": "function", "name": "weather"}


def test_truncated_response_is_incomplete() -> None:
    """Responses have a status where chat completions have the finish reason ``length``."""
    received = response(responses_adapter(), answer(reason="repetition"))
    assert (received["status"], received["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert received["output"][0]["status"] == "incomplete"
    assert received["vlrun"] == {"finish_reason": "repetition"}
    assert (received["metadata"], received["text"]) == ({}, {"format": {"type": "text"}})


@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("tools", [[], [TOOL]])
@pytest.mark.parametrize("text", ["", "6 bottles <tool", CALLS, CALLS.partition(" ")[2][7:]])
def test_response_events_add_up_to_the_response(text: str, tools: list[object], reason: FinishReason) -> None:
    """The official client builds the response from the events."""
    adapter, whole = responses_adapter(tools=tools), answer(text, reason, logprobs=TOKENS)
    received, expected = response_events(adapter, whole), response(adapter, whole)
    completed_at = received[-1]["response"]["completed_at"]
    assert received[-1]["response"] == {**expected, "completed_at": completed_at}
    assert (completed_at is not None) == (expected["status"] == "completed")
    assert received[-1]["type"] == f"response.{expected['status']}"
    items = [event["item"] for event in received if event["type"] == "response.output_item.done"]
    assert items == expected["output"]
    opened = [event["item"]["id"] for event in received if event["type"] == "response.output_item.added"]
    assert opened == [item["id"] for item in items]
    for index, item in enumerate(items):
        own = [event for event in received if event.get("item_id") == item["id"]]
        assert {event["output_index"] for event in own} == {index}
        output = "".join(event["delta"] for event in own if event["type"].endswith(".delta"))
        assert output == (item["content"][0]["text"] if item["type"] == "message" else item["arguments"])


def test_failed_response_has_the_error() -> None:
    """A client would wait for an answer if the stream just ended."""
    adapter = responses_adapter()
    received = data([*adapter.begin(), *adapter.failed(ApiError(504, "too late", "late"))], "ResponseStreamEvent")
    assert [event["sequence_number"] for event in received] == [0, 1, 2, 3]
    assert (received[2]["type"], received[2]["message"], received[2]["code"]) == ("error", "too late", "late")
    assert received[3]["response"]["error"] == {"code": "server_error", "message": "too late"}
    assert received[3]["response"]["status"] == "failed"


def test_errors_match_openais_schema() -> None:
    body = json.loads(bad_request("no", "messages").body())
    assert_documented(body, "ErrorBody")
    check(body, "ErrorResponse")


def test_token_count_adds_up() -> None:
    """Text and image tokens are the total; ``remaining`` is never negative."""
    counted = {"count": 40, "image_tokens": 30, "text_tokens": 10, "context": 100, "remaining": 60}
    assert token_count(40, 30, 100) == counted
    assert_documented(counted, "TokenCount")
    assert token_count(140, 30, 100)["remaining"] == 0


def test_form_answers_have_the_field_that_tutorials_read() -> None:
    request = GenerationRequest((RequestMessage("user", ("hi",)),))
    chat = json.loads(FormAdapter(request, "answer").whole([answer()]))
    assert chat["answer"] == "6 bottles"
    received = json.loads(FormAdapter(request, "text").whole([answer("6", reason="length")]))
    for value in (chat, received):
        assert_documented(value, "FormAnswer")
    assert (received["text"], received["finish_reason"]) == ("6", "length")


@pytest.mark.parametrize("text", ["6 bottles", ""])
def test_reasoning_comes_before_the_answer_and_apart_from_it(text: str) -> None:
    """Guards against reasoning in ``content``, which programs would take for the answer."""
    usage = Usage(40, 30, 16, 9, 3, reasoning_tokens=4)
    whole = Answer(text, "stop" if text else "length", usage, TIMINGS, reasoning="Let me see.")
    message = only_choice(chat_adapter(), whole)["message"]
    assert message == {"role": "assistant", "content": text, "refusal": None, "reasoning_content": "Let me see."}
    assert completion(chat_adapter(), whole, whole)["usage"]["completion_tokens_details"] == {"reasoning_tokens": 8}
    deltas = [chunk["choices"][0]["delta"] for chunk in chat_chunks(chat_adapter(), whole) if chunk["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Let me see."
    assert "".join(delta.get("content", "") for delta in deltas) == text
    kinds = [next(iter(delta)) for delta in deltas[1:-1]]
    assert kinds == sorted(kinds, reverse=True)


@pytest.mark.parametrize("text", ["6 bottles", "", CALLS])
def test_reasoning_is_an_item_of_a_response(text: str) -> None:
    """Streams build the same items as the whole response."""
    whole = Answer(text, "stop" if text else "length", USAGE, TIMINGS, reasoning="Let me see.")
    tools = {"tools": [TOOL, {**TOOL, "name": "clock"}]}
    item, *rest = response(responses_adapter(**tools), whole)["output"]
    assert item["content"] == [{"type": "reasoning_text", "text": "Let me see."}]
    assert rest or not text
    events = response_events(responses_adapter(**tools), whole)
    deltas = [event["delta"] for event in events if event["type"] == "response.reasoning_text.delta"]
    assert "".join(deltas) == "Let me see."
    done = [event for event in events if event["type"] == "response.output_item.done"]
    added = [event for event in events if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in done] == [event["output_index"] for event in added]
    without_ids = [{key: value for key, value in one["item"].items() if not key.endswith("id")} for one in done]
    expected = events[-1]["response"]["output"]
    assert without_ids == [{key: value for key, value in one.items() if not key.endswith("id")} for one in expected]
