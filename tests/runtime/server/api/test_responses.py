"""Answers, whole and streamed, against OpenAI's own schema; and that a stream says what the whole says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.runtime.server.openai_schema import check
from vlrun.server.api import other_responses as answers_other
from vlrun.server.api.chat_response import ChatCompletionChunk, Chatting
from vlrun.server.api.chat_stream import ChatStream
from vlrun.server.api.responses_parser import read_responses
from vlrun.server.api.responses_response import Responding
from vlrun.server.api.responses_stream import ResponseStream, name_of
from vlrun.server.api_errors import ApiError, bad_request
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
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CHATTING = Chatting("chatcmpl-abc", 1_790_000_000, "vlrun-tiny")
CALLING = Chatting("chatcmpl-abc", 1_790_000_000, "vlrun-tiny", calling=True)


def answer(text: str = "6 bottles", reason: FinishReason = "stop", **more: Any) -> Answer:
    return Answer(text, reason, USAGE, TIMINGS, **more)


def chunks(whole: Answer, size: int = 3) -> list[Chunk]:
    """The answer in pieces of so many characters; the tokens' likelihoods come one a piece."""
    pieces = [whole.text[start : start + size] for start in range(0, len(whole.text), size)]
    tokens = [whole.logprobs[i : i + 1] for i in range(len(pieces))]
    said = [Chunk(piece, logprobs=likely) for piece, likely in zip(pieces, tokens, strict=True)]
    return [*said, Chunk("", answer=whole, logprobs=whole.logprobs[len(pieces) :])]


def streamed(stream: ChatStream, whole: Answer) -> list[dict[str, Any]]:
    told = [*stream.begin(), *(out for chunk in chunks(whole) for out in stream.take(0, chunk)), *stream.end([whole])]
    return [check(chunk, "CreateChatCompletionStreamResponse") for chunk in told]


def responding(**more: Any) -> Responding:
    value = {"model": "m", "input": "hi", **more}
    return Responding("resp_abc", 1_790_000_000, "vlrun-tiny", read_responses(value, ["m"], ServerLimits())[1])


def events(made: Responding, whole: Answer) -> list[dict[str, Any]]:
    stream = ResponseStream(made)
    told = [*stream.begin(), *(event for chunk in chunks(whole) for event in stream.take(chunk))]
    checked = [check(event, "ResponseStreamEvent") for event in told]
    assert [event["type"] for event in checked] == [name_of(event) for event in told]
    assert [event["sequence_number"] for event in checked] == list(range(len(checked)))
    return checked


def test_whole_completion_fits_openai() -> None:
    """A field that is missing, or null where OpenAI allows no null, breaks typed clients."""
    told = check(CHATTING.whole([answer(logprobs=TOKENS), answer("7")]), "CreateChatCompletionResponse")
    first, second = told["choices"]
    assert first["message"] == {"role": "assistant", "content": "6 bottles", "refusal": None}
    assert first["logprobs"]["content"][1]["bytes"] == [0xE4]
    assert [top["token"] for top in first["logprobs"]["content"][0]["top_logprobs"]] == ["6", "\ufffd"]
    assert second["logprobs"] is None
    assert second["index"] == 1


def test_prompt_counts_once_and_answers_together() -> None:
    """With several answers, usage once counted the prompt of each."""
    usage = CHATTING.whole([answer(), answer()]).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (40, 10, 50)
    assert (usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens_details.image_tokens) == (16, 30)


def test_timings_leave_out_loading() -> None:
    """How long the model took to load is no business of a request."""
    told = check(CHATTING.whole([answer()]), "CreateChatCompletionResponse")
    assert told["timings"] == {
        "preprocess": 0.1,
        "queue": 0.2,
        "vision": 0.3,
        "prefill": 0.4,
        "ttft": 1.0,
        "tpot": None,
        "total": 1.5,
    }


@pytest.mark.parametrize(("ours", "theirs"), [("stop", "stop"), ("length", "length"), ("repetition", "length")])
def test_finish_reasons_are_openais(ours: FinishReason, theirs: str) -> None:
    """``repetition`` is no value of OpenAI's, and is told beside it."""
    (choice,) = check(CHATTING.whole([answer(reason=ours)]), "CreateChatCompletionResponse")["choices"]
    assert choice["finish_reason"] == theirs
    assert choice.get("vlrun", {}).get("finish_reason") == ("repetition" if ours == "repetition" else None)


def test_notes_about_images_are_told() -> None:
    """A client could not know that the rest of an animation was left out."""
    (choice,) = check(CHATTING.whole([answer(notes=("made smaller",))]), "CreateChatCompletionResponse")["choices"]
    assert choice["vlrun"] == {"notes": ["made smaller"]}


def test_calls_leave_the_text() -> None:
    """The marks of a call must not be read out to people."""
    (choice,) = check(CALLING.whole([answer(CALLS)]), "CreateChatCompletionResponse")["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    first, second = choice["message"]["tool_calls"]
    assert first["function"] == {"name": "weather", "arguments": '{"city": "Bergen"}'}
    assert first["id"] != second["id"]


def test_without_tools_a_call_is_text() -> None:
    """A client that gave no tools would find an empty answer."""
    (choice,) = check(CHATTING.whole([answer(CALLS)]), "CreateChatCompletionResponse")["choices"]
    assert choice["message"]["content"] == CALLS
    assert choice["finish_reason"] == "stop"
    assert "tool_calls" not in choice["message"]


def test_content_is_null_beside_calls_alone() -> None:
    """OpenAI's content is null there, not empty."""
    (choice,) = check(CALLING.whole([answer(CALLS.partition(" ")[2][7:])]), "CreateChatCompletionResponse")["choices"]
    assert choice["message"]["content"] is None


@pytest.mark.parametrize("made", [CHATTING, CALLING])
@pytest.mark.parametrize("text", ["", "6 bottles, and <tool", CALLS, "<tool_call>{no call"])
def test_stream_says_what_the_whole_says(made: Chatting, text: str) -> None:
    """A stream that cuts at the wrong place loses text, calls or likelihoods."""
    whole = answer(text, logprobs=TOKENS)
    told = [chunk["choices"][0] for chunk in streamed(ChatStream(made), whole)]
    (expected,) = check(made.whole([whole]), "CreateChatCompletionResponse")["choices"]
    assert "".join(choice["delta"].get("content", "") for choice in told) == (expected["message"]["content"] or "")
    calls = [call for choice in told for call in choice["delta"].get("tool_calls", [])]
    assert [call.pop("index") for call in calls] == list(range(len(calls)))
    assert calls == expected["message"].get("tool_calls", [])
    tokens = [token for choice in told if choice["logprobs"] for token in choice["logprobs"]["content"]]
    assert tokens == expected["logprobs"]["content"]
    assert [choice["finish_reason"] for choice in told if choice["finish_reason"]] == [expected["finish_reason"]]


def test_choices_of_a_stream_do_not_mix() -> None:
    """What may become a call was once held back for all choices together."""
    stream, said = ChatStream(CALLING, n=2), {0: "", 1: ""}
    assert [chunk.choices[0].index for chunk in stream.begin()] == [0, 1]
    for index, text in [(0, "a<tool"), (1, "b"), (0, "_x"), (1, "c")]:
        for chunk in stream.take(index, Chunk(text)):
            said[chunk.choices[0].index] += str(chunk.choices[0].delta.content)
    assert said == {0: "a<tool_x", 1: "bc"}


def test_last_chunk_of_an_answer_has_timings_alone() -> None:
    """Timings belong to the end of an answer."""
    told = streamed(ChatStream(CHATTING), answer())
    assert [("timings" in chunk, "usage" in chunk) for chunk in told[-2:]] == [(False, False), (True, False)]


def test_usage_is_null_until_it_is_told() -> None:
    """OpenAI's clients look for it in a last chunk without choices, where it was asked for."""
    told = streamed(ChatStream(CHATTING, include_usage=True), answer())
    assert all(chunk["usage"] is None for chunk in told[:-1])
    assert told[-1]["choices"] == []
    assert told[-1]["usage"]["total_tokens"] == 45


def test_progress_is_told_if_wanted() -> None:
    """A client that knows nothing of it must not see chunks without choices."""
    step = Chunk("", progress=Progress("vision", 64, 256))
    assert ChatStream(CHATTING).take(0, step) == []
    (chunk,) = ChatStream(CHATTING, include_progress=True).take(0, step)
    told = check(chunk, "CreateChatCompletionStreamResponse")
    assert told["vlrun"] == {"progress": {"phase": "vision", "done": 64, "total": 256, "percent": 25}}
    assert isinstance(chunk, ChatCompletionChunk)
    assert chunk.choices == []


def test_whole_response_fits_openai() -> None:
    """A field that is missing breaks typed clients; much of it repeats the request."""
    schema = {"type": "json_schema", "name": "count", "schema": {"type": "object"}}
    made = responding(
        instructions="Be brief.",
        metadata={"a": "b"},
        temperature=0.5,
        tools=[TOOL],
        tool_choice={"type": "function", "name": "weather"},
        text={"format": schema},
        store=True,
    )
    told = check(made.whole(answer(logprobs=TOKENS)), "Response")
    assert told["status"] == "completed"
    assert told["output"][0]["content"][0]["text"] == "6 bottles"
    assert len(told["output"][0]["content"][0]["logprobs"]) == 2
    assert told["usage"]["input_tokens_details"]["cached_tokens"] == 16
    assert (told["instructions"], told["metadata"], told["store"]) == ("Be brief.", {"a": "b"}, False)
    assert told["text"] == {"format": schema}
    assert told["tool_choice"] == {"type": "function", "name": "weather"}


def test_cut_response_is_incomplete() -> None:
    """``length`` is said as a status there."""
    told = check(responding().whole(answer(reason="repetition")), "Response")
    assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert told["output"][0]["status"] == "incomplete"
    assert told["vlrun"] == {"finish_reason": "repetition"}
    assert (told["metadata"], told["text"]) == ({}, {"format": {"type": "text"}})


@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("tools", [[], [TOOL]])
@pytest.mark.parametrize("text", ["", "6 bottles <tool", CALLS, CALLS.partition(" ")[2][7:]])
def test_events_say_what_the_whole_says(text: str, tools: list[object], reason: FinishReason) -> None:
    """The official client puts the response together from the events."""
    made, whole = responding(tools=tools), answer(text, reason, logprobs=TOKENS)
    told, expected = events(made, whole), check(made.whole(whole), "Response")
    assert told[-1]["response"] == expected
    assert told[-1]["type"] == f"response.{expected['status']}"
    items = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert items == expected["output"]
    opened = [event["item"]["id"] for event in told if event["type"] == "response.output_item.added"]
    assert opened == [item["id"] for item in items]
    for index, item in enumerate(items):
        own = [event for event in told if event.get("item_id") == item["id"]]
        assert {event["output_index"] for event in own} == {index}
        said = "".join(event["delta"] for event in own if event["type"].endswith(".delta"))
        assert said == (item["content"][0]["text"] if item["type"] == "message" else item["arguments"])


def test_failed_response_tells_why() -> None:
    """A stream that just ends leaves the client waiting for an answer."""
    stream = ResponseStream(responding())
    begun = stream.begin()
    told = [check(event, "ResponseStreamEvent") for event in [*begun, *stream.fail(ApiError(504, "too late", "late"))]]
    assert [event["sequence_number"] for event in told] == [0, 1, 2, 3]
    assert (told[2]["type"], told[2]["message"], told[2]["code"]) == ("error", "too late", "late")
    assert told[3]["response"]["error"] == {"code": "server_error", "message": "too late"}
    assert told[3]["response"]["status"] == "failed"


def test_models_fit_openai() -> None:
    """`client.models.list()` reads it."""
    told = check(answers_other.models(["a", "b"], 1_790_000_000, 4096), "ListModelsResponse")
    assert [model["id"] for model in told["data"]] == ["a", "b"]
    assert check(answers_other.model("a", 1, None), "Model") == {
        "id": "a",
        "object": "model",
        "created": 1,
        "owned_by": "vlrun",
    }


def test_errors_fit_openai() -> None:
    """Whatever goes wrong, clients find message, type, param and code."""
    body = msgspec.json.decode(bad_request("no", "messages").body(), type=answers_other.ErrorBody)
    check(body, "ErrorResponse")


def test_count_of_tokens_adds_up() -> None:
    """Text and images make up the whole; a prompt that is too long leaves nothing."""
    assert answers_other.token_count(40, 30, 100) == answers_other.TokenCount(
        count=40, image_tokens=30, text_tokens=10, context=100, remaining=60
    )
    assert answers_other.token_count(140, 30, 100).remaining == 0


def test_forms_say_it_in_the_tutorials_words() -> None:
    """Their scripts read ``answer`` and ``text``."""
    assert answers_other.form_chat_answer(answer()).answer == "6 bottles"
    assert answers_other.form_analyze_answer(answer("6", reason="length")).finish_reason == "length"
