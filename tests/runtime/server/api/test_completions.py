"""Requests and answers of OpenAI's former endpoint for texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.runtime.server.api.test_answers import TOKENS, answer, assert_documented, chunks
from tests.runtime.server.openai_schema import check
from vlrun.server.api.completions import CompletionAdapter, CompletionRequest, parse
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.generation_request import AnswerChunk
from vlrun.server.limits import ServerLimits
from vlrun.types.answer import Answer
from vlrun.types.options import Options

LIMITS = ServerLimits()


def request(**more: Any) -> dict[str, Any]:
    return {"model": "vlrun-tiny", "prompt": "Once", **more}


def adapter(**more: Any) -> CompletionAdapter:
    return CompletionAdapter.read(json.dumps(request(**more)).encode(), ["vlrun-tiny"], LIMITS)


def refused(**more: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(request(**more), ["vlrun-tiny"], LIMITS)
    return caught.value


def test_all_options_reach_the_model() -> None:
    given: dict[str, Any] = {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "seed": 3,
        "logprobs": 2,
    }
    penalties: dict[str, Any] = {"presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.5}
    parsed, echo = parse(request(**given, **penalties, stop="x", stream=True, n=2), ["vlrun-tiny"], LIMITS)
    assert parsed.options == Options(**given, **penalties, stop=("x",))
    assert (parsed.n, parsed.stream, parsed.raw, parsed.include_usage, echo) == (2, True, True, False, False)
    assert [message.parts for message in parsed.messages] == [("Once",)]


def test_without_options_the_defaults_apply() -> None:
    optional = set(CompletionRequest.__struct_fields__) - {"prompt"}
    for nothing in ({}, dict.fromkeys(optional)):
        parsed, echo = parse(request(**nothing), ["vlrun-tiny"], LIMITS)
        assert (parsed.options, parsed.n, parsed.stream, echo) == (Options(), 1, False, False)


HINTS: list[dict[str, Any]] = [
    {"user": "x"}, {"suffix": ""}, {"suffix": None}, {"best_of": 1}, {"best_of": 2, "n": 2}, {"logit_bias": {}},
    {"echo": False}, {"stop": ""}, {"seed": -1}, {"add_special_tokens": True}, {"ignore_eos": False}, {"later": None},
    {"stream_options": {"include_usage": True}},
]  # fmt: skip


@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_hints_are_accepted(hint: dict[str, Any]) -> None:
    """LangChain, LlamaIndex and guidellm send some of them with every request."""
    parse(request(**hint), ["vlrun-tiny"], LIMITS)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"suffix": "end"}, "unsupported_parameter", "suffix"),
    ({"best_of": 2}, "unsupported_parameter", "best_of"),
    ({"logit_bias": {"1": 5}}, "unsupported_parameter", "logit_bias"),
    ({"ignore_eos": True}, "unsupported_parameter", "ignore_eos"),
    ({"echo": True, "logprobs": 0}, "unsupported_parameter", "echo"),
    ({"messages": []}, "unknown_parameter", "messages"),
    ({"model": "gpt-5"}, "model_not_found", "model"),
    ({"prompt": ""}, "invalid_value", "prompt"),
    ({"prompt": []}, "invalid_value", "prompt"),
    ({"prompt": ["a", ""]}, "invalid_value", "prompt[1]"),
    ({"prompt": [1, 2]}, "invalid_type", "prompt[0]"),
    ({"prompt": [[1, 2]]}, "invalid_type", "prompt[0]"),
    ({"prompt": None}, "invalid_type", "prompt"),
    ({"prompt": ["a"] * 9}, "invalid_value", "prompt"),
    ({"prompt": ["a"] * 3, "n": 3}, "invalid_value", "prompt"),
    ({"prompt": "a" * (LIMITS.max_text + 1)}, "invalid_value", "prompt"),
    ({"prompt": ["a" * LIMITS.max_text, "b"]}, "invalid_value", "prompt"),
    ({"logprobs": 21}, "invalid_value", "logprobs"),
]


@pytest.mark.parametrize(("more", "code", "param"), REFUSED)
def test_what_cannot_be_done_is_refused_by_name(more: dict[str, Any], code: str, param: str) -> None:
    error = refused(**more)
    assert (error.code, error.param) == (code, param), error.message


def test_prompts_and_their_answers_are_in_order() -> None:
    """``n`` of the first prompt, then those of the next."""
    two = adapter(prompt=["a", "b"], n=2, echo=True)
    value = whole(two, [answer(text) for text in "1234"])
    assert [(choice["index"], choice["text"]) for choice in value["choices"]] == [
        (0, "a1"),
        (1, "a2"),
        (2, "b3"),
        (3, "b4"),
    ]
    assert (value["usage"]["prompt_tokens"], value["usage"]["completion_tokens"]) == (80, 20)
    assert value["usage"]["total_tokens"] == 100


def whole(adapter: CompletionAdapter, answers: Sequence[Answer]) -> dict[str, Any]:
    value = json.loads(adapter.whole(answers))
    assert_documented(value, "Completion")
    for choice in value["choices"]:
        assert_documented(choice, "CompletionChoice")
    return check(value, "CreateCompletionResponse")


def streamed(adapter: CompletionAdapter, *answers: Answer) -> list[dict[str, Any]]:
    events = adapter.begin()
    for index, one in enumerate(answers):
        events += [event for chunk in chunks(one) for event in adapter.events(AnswerChunk(index, chunk))]
    *lines, end = b"".join([*events, *adapter.end(answers)]).decode().split("\n\n")[:-1]
    assert end == "data: [DONE]"
    values = [json.loads(line.removeprefix("data: ")) for line in lines]
    for value in values:
        assert_documented(value, "Completion")
    return values


@pytest.mark.parametrize(
    "more", [{}, {"echo": True}, {"logprobs": 2}, {"n": 2}, {"stream_options": {"include_usage": True}}]
)
def test_a_stream_gives_what_the_whole_answer_gives(more: dict[str, Any]) -> None:
    given = [answer(logprobs=TOKENS if "logprobs" in more else ()), answer("4 cans", "length")][: more.get("n", 1)]
    expected = whole(adapter(**{name: value for name, value in more.items() if name != "stream_options"}), given)
    received = streamed(adapter(stream=True, **more), *given)
    assert len({chunk["id"] for chunk in received}) == 1
    assert (received[-1].get("usage") == expected["usage"]) == ("stream_options" in more)
    for index, choice in enumerate(expected["choices"]):
        parts = [part for chunk in received for part in chunk["choices"] if part["index"] == index]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [part["finish_reason"] for part in parts[-1:]] == [choice["finish_reason"]]
        assert all(part["finish_reason"] is None for part in parts[:-1])
        scores = [part["logprobs"] for part in parts if part["logprobs"]]
        for name in choice["logprobs"] or ():
            assert [value for score in scores for value in score[name]] == choice["logprobs"][name]


def test_log_probabilities_in_the_former_format() -> None:
    (choice,) = whole(adapter(logprobs=2), [answer(logprobs=TOKENS)])["choices"]
    assert choice["logprobs"] == {
        "tokens": ["6", "\ufffd"],
        "token_logprobs": [-0.1, -2.5],
        "top_logprobs": [{"6": -0.1, "\ufffd": -2.5}] * 2,
        "text_offset": [0, 1],
    }


def test_an_error_in_a_stream_is_its_last_event() -> None:
    assert adapter(stream=True).failed(bad_request("no")) == [b"data: " + bad_request("no").body() + b"\n\n"]
