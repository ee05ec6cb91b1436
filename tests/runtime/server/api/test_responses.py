"""Parsing of requests to /v1/responses, and the error for each invalid one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.server.api.chat_requests import IMAGE
from vlrun.server.api import fields, responses
from vlrun.server.api.responses_schemas import ResponsesRequest
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import EncodedImage, GenerationRequest, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Options
from vlrun.types.turn import ToolCall, ToolChoice

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Bergen"}'}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
OUTPUT_TEXT = {"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": []}
LOGPROBS = ["message.output_text.logprobs"]


def request(items: object = "hi", **more: object) -> dict[str, Any]:
    return {"model": "vlrun-tiny", "input": items, **more}


def message(role: str, *parts: object, **more: object) -> dict[str, Any]:
    return {"role": role, "content": list(parts), **more}


def text_part(text: str = "hi") -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def image(**more: object) -> dict[str, Any]:
    return {"type": "input_image", "image_url": IMAGE, **more}


def read(value: object, limits: ServerLimits | None = None) -> GenerationRequest:
    return responses.parse(value, ["vlrun-tiny"], limits or ServerLimits())[0]


def refused(value: object, limits: ServerLimits | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(value, limits)
    return caught.value


@pytest.mark.parametrize(
    "items",
    [
        "hi",
        [{"role": "user", "content": "hi"}],
        [{"type": "message", "role": "user", "content": "hi"}],
        [message("user", text_part())],
    ],
)
def test_a_text_has_several_notations(items: object) -> None:
    """The official client omits ``type``."""
    assert read(request(items)) == GenerationRequest(messages=(RequestMessage("user", ("hi",)),))


def test_images_and_texts_keep_their_order() -> None:
    (turn,) = read(request([message("user", image(detail="low"), text_part(), image())])).messages
    first, text, second = turn.parts
    assert isinstance(first, EncodedImage)
    assert isinstance(second, EncodedImage)
    assert (first.detail, text, second.detail) == ("low", "hi", "auto")
    assert second.param == "input[0].content[2].image_url"


def test_instructions_are_the_first_system_message() -> None:
    """Others keep their place."""
    items = [
        message("developer", text_part("Be kind.")),
        {"role": "user", "content": "hi"},
        message("system", text_part()),
    ]
    parsed = read(request(items, instructions="Be brief."))
    assert parsed.messages == (
        RequestMessage("system", ("Be brief.",)),
        RequestMessage("system", ("Be kind.",)),
        RequestMessage("user", ("hi",)),
        RequestMessage("system", ("hi",)),
    )
    assert read(request(instructions="Be brief.")).messages[0] == RequestMessage("system", ("Be brief.",))


def test_output_items_are_valid_input() -> None:
    """Clients continue with ``input += response.output``: items with ids, statuses and nulls."""
    answered = message("assistant", OUTPUT_TEXT, id="msg_1", type="message", status="completed", phase=None)
    called = {**CALL, "id": "fc_1", "status": "completed", "namespace": None}
    parsed = read(request([message("user", text_part()), answered, called, {**CALL, "call_id": "call_2"}, RESULT]))
    call = ToolCall("weather", '{"city": "Bergen"}')
    assert parsed.messages[1:] == (
        RequestMessage("assistant", ("Let me see.",), (call, call)),
        RequestMessage("tool", ("rain",)),
    )


def test_a_call_without_text_is_an_assistant_turn() -> None:
    assert read(request([message("user", text_part()), CALL, RESULT])).messages[1] == RequestMessage(
        "assistant", (), (ToolCall("weather", '{"city": "Bergen"}'),)
    )


def test_all_options_are_used() -> None:
    """Dropping an option silently would be worse than refusing it."""
    parsed = read(
        request(
            temperature=0.5,
            top_p=0.9,
            presence_penalty=0.25,
            frequency_penalty=-0.25,
            max_output_tokens=9,
            stream=True,
            stream_options={"include_obfuscation": False},
            include=LOGPROBS,
            top_logprobs=3,
            tools=[TOOL],
            tool_choice={"type": "function", "name": "weather"},
            parallel_tool_calls=False,
        )
    )
    assert parsed.options == Options(
        max_tokens=9, temperature=0.5, top_p=0.9, presence_penalty=0.25, frequency_penalty=-0.25, logprobs=3
    )
    assert parsed.stream
    function = {"name": "weather", "parameters": {"type": "object"}, "strict": True}
    assert parsed.tools == ({"type": "function", "function": function},)
    assert parsed.tool_choice == ToolChoice("required", "weather", parallel=False)


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "name": "n", "schema": {"type": "array"}}, {"type": "array"}),
    ],
)
def test_text_formats(form: object, schema: object) -> None:
    """The schema is a level higher than in chat completions."""
    assert read(request(text={"format": form})).options.schema == schema


@pytest.mark.parametrize("name", sorted({*ResponsesRequest.__struct_fields__} - {"model", "input"}))
def test_null_means_default(name: str) -> None:
    """Some clients send null for every unused field."""
    assert read(request(**{name: None})) == read(request())


@pytest.mark.parametrize("name", sorted({*fields.RESPONSES.only, *fields.RESPONSES.refused}))
def test_unsupported_fields_are_refused_by_name(name: str) -> None:
    """Ignoring ``previous_response_id`` would answer without the conversation."""
    error = refused(request(**{name: {"id": "x"}}))
    assert (error.param, error.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize(
    "given",
    [
        {"store": True},
        {"truncation": "disabled"},
        {"truncation": "auto"},
        {"reasoning": {}},
        {"reasoning": {"effort": "high", "summary": "auto"}},
        {"include": []},
        {"include": ["reasoning.encrypted_content", "web_search_call.results"]},
        {"text": {"verbosity": "low"}},
        {"stream_options": {"include_obfuscation": True}},
        {"tools": [], "tool_choice": "auto"},
        {"max_tool_calls": 3},
    ],
    ids=str,
)
def test_values_that_ask_for_nothing_else_are_accepted(given: dict[str, object]) -> None:
    """Strict clients send every field, with its default. OpenAI's default of ``store`` is true."""
    assert read(request(**given)) == read(request())


@pytest.mark.parametrize(
    ("value", "param", "expected"),
    [
        ([], None, "must be an object"),
        ({"model": "vlrun-tiny"}, "input", "is missing"),
        (request(5), "input", "must be a string or an array, not a whole number"),
        (request([]), "input", "must not be empty"),
        (request([5]), "input[0]", "must be an object"),
        (request([{"type": "web_search_call"}]), "input[0].type", 'not "web_search_call"'),
        (request([{"type": "item_reference", "id": "x"}]), "input[0].type", 'not "item_reference"'),
        (
            request([message("tool", text_part())]),
            "input[0].role",
            "must be one of assistant, developer, system, user",
        ),
        (request([{"role": "user"}]), "input[0].content", "is missing"),
        (request([message("user", {"type": "input_file"})]), "input[0].content[0].file_data", "is missing"),
        (request([message("user", {"type": "input_video"})]), "input[0].content[0].type", "in a chat completion"),
        (request([message("user", image(file_id="x"))]), "input[0].content[0].file_id", "is not supported"),
        (request([message("user", image(image_url="http://x/"))]), "input[0].content[0].image_url", ""),
        (
            request([message("user", OUTPUT_TEXT)]),
            "input[0].content[0].type",
            "must be input_text in a message of the user",
        ),
        (request([message("assistant", text_part())]), "input[0].content[0].type", "must be output_text"),
        (request([message("system", image())]), "input[0].content[0].type", "only user messages may have images"),
        (request([RESULT]), "input[0].call_id", "not the id of an earlier call"),
        (request([{**CALL, "arguments": "[]"}]), "input[0].arguments", "must be the JSON text of an object"),
        (request([{**CALL, "name": "a b"}]), "input[0].name", "1 to 64"),
        (request(tools=[{"type": "web_search"}]), "tools[0].type", 'must be function, not "web_search"'),
        (request(tools=[TOOL, TOOL]), "tools[1].name", "is taken by another function"),
        (request(tool_choice={"type": "function", "name": "x"}), "tool_choice", "not among the tools"),
        (request(tools=[TOOL], tool_choice={"type": "web_search"}), "tool_choice.type", "must be function"),
        (request(text={"format": {"type": "json_schema", "name": "n"}}), "text.format.schema", "is missing"),
        (request(include=["everything"]), "include[0]", "must be one of "),
        (request(top_logprobs=3), "top_logprobs", "needs message.output_text.logprobs"),
        (request(truncation="last"), "truncation", "must be one of auto, disabled"),
        (request(max_output_tokens=0), "max_output_tokens", "must be at least 1"),
        (request(temperature=3), "temperature", "must be at most 2"),
        (request(metadata={"a": 5}), "metadata", "must be a string"),
        (request(metadata={"a" * 65: "b"}), "metadata", "has a key that is too long"),
        (request(background=True), "background", "is not supported"),
        (request(seed=1), "seed", "is unknown"),
    ],
)
def test_invalid_requests_are_refused_with_their_field(value: object, param: str | None, expected: str) -> None:
    """A short 400 that names the field."""
    error = refused(value)
    assert (error.status, error.param) == (400, param)
    assert expected in error.message
    assert len(error.message) < 300


def test_another_model_is_not_found() -> None:
    """Row 21."""
    error = refused({"model": "gpt-x", "input": "hi"})
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")


def test_limits_are_those_of_chat_completions() -> None:
    """A second endpoint must not bypass them."""
    limits = ServerLimits(max_text=100, max_images=1, max_schema_bytes=100)
    too_large: list[tuple[dict[str, Any], str]] = [
        (request("x" * 51, instructions="x" * 50), "input"),
        (request([message("user", text_part("x" * 101))]), "input[0].content[0].text"),
        (request([CALL, {**RESULT, "output": "x" * 100}]), "input[1].output"),
        (request([CALL, {**RESULT, "output": [text_part("x" * 100)]}]), "input[1].output[0].text"),
        (request([message("user", image(), image())]), "input[0].content[1].image_url"),
        (request(tools=[{**TOOL, "description": "x" * 101}]), "tools[0].description"),
        (
            request(text={"format": {"type": "json_schema", "name": "n", "schema": {"title": "ä" * 50}}}),
            "text.format.schema",
        ),
    ]
    for value, param in too_large:
        assert refused(value, limits).param == param


def test_the_output_of_a_call_may_be_a_list_of_texts_and_images() -> None:
    """As OpenAI's API accepts it."""
    question, result = message("user", text_part()), {**RESULT, "output": [text_part("3."), text_part("50")]}
    *_, last = read(request([question, CALL, result])).messages
    assert (last.role, last.parts) == ("tool", ("3.", "50"))
    *_, last = read(request([question, CALL, {**RESULT, "output": [text_part("Here:"), image()]}])).messages
    assert last.parts[0] == "Here:"
    assert isinstance(last.parts[1], EncodedImage)
    assert last.parts[1].param == "input[2].output[1].image_url"
    assert read(request([question, CALL, {**RESULT, "output": []}])).messages[-1].parts == ()
    wrong = [{"type": "input_file", "file_id": "x"}]
    assert refused(request([question, CALL, {**RESULT, "output": wrong}])).param == "input[2].output[0].file_id"


def test_reasoning_of_an_earlier_answer_belongs_to_the_message_or_call_after_it() -> None:
    """Clients send the items of an answer back as they got them."""
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "status": "completed"}
    thought = {**reasoning, "content": [{"type": "reasoning_text", "text": "Let me see."}]}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "6"}
    answered = message("assistant", {"type": "output_text", "text": "Six."})
    question = message("user", text_part())
    sent = read(request([question, thought, call, result, thought, answered, question]))
    assert [(one.role, one.reasoning, len(one.tool_calls), len(one.parts)) for one in sent.messages] == [
        ("user", None, 0, 1),
        ("assistant", "Let me see.", 1, 0),
        ("tool", None, 0, 1),
        ("assistant", "Let me see.", 0, 1),
        ("user", None, 0, 1),
    ]


def test_reasoning_without_text_is_left_out() -> None:
    """OpenAI's is encrypted. Guards against an empty answer in its place, and an empty conversation."""
    encrypted: dict[str, Any] = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": None,
        "encrypted_content": "x",
    }
    question = message("user", text_part())
    assert read(request([question, encrypted, question])) == read(request([question, question]))
    assert refused(request([encrypted])).param == "input"
