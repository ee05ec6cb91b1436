"""Parsing of chat completion requests, and the error for each invalid one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.runtime.server.api.chat_requests import CALL, IMAGE, NAMED, TOOL, image, request, text, user
from vlrun.server.api import chat, fields
from vlrun.server.api.chat_schemas import ChatRequest
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import EncodedImage, GenerationRequest, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Options
from vlrun.types.turn import ToolCall, ToolChoice

NAMES = ("vlrun-tiny", "other")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


def read(value: object, limits: ServerLimits | None = None) -> GenerationRequest:
    return chat.parse(value, NAMES, limits or ServerLimits())


def refused(value: object, limits: ServerLimits | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(value, limits)
    return caught.value


def json_schema(schema: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "count", "schema": schema, "strict": True}}


def test_a_minimal_request_has_the_defaults() -> None:
    assert read(request()) == GenerationRequest(messages=(RequestMessage("user", ("hi",)),))


def test_parts_keep_their_order_and_details() -> None:
    """A question about the first image must not be about the second."""
    parsed = read(request(user(image(detail="low"), text("and"), image())))
    first, middle, second = parsed.messages[0].parts
    assert isinstance(first, EncodedImage)
    assert isinstance(second, EncodedImage)
    assert (first.detail, middle, second.detail) == ("low", "and", "auto")
    assert first.encoded.startswith(b"\x89PNG")
    assert second.param == "messages[0].content[2].image_url.url"


def test_all_options_are_used() -> None:
    """Dropping an option silently would be worse than refusing it."""
    sampling = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "seed": 7,
        "presence_penalty": -1.5,
        "frequency_penalty": 1.5,
        "repetition_penalty": 1.1,
    }
    parsed = read(
        request(
            **sampling,
            max_tokens=9,
            max_completion_tokens=9,
            stop=["a", "b"],
            n=3,
            logprobs=True,
            top_logprobs=4,
            stream=True,
            stream_options={"include_usage": True, "include_progress": True, "include_obfuscation": False},
        )
    )
    assert parsed.options == Options(max_tokens=9, stop=("a", "b"), logprobs=4, **sampling)  # type: ignore[arg-type]
    assert (parsed.n, parsed.stream, parsed.include_usage, parsed.include_progress) == (3, True, True, True)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"stop": "end"}, Options(stop=("end",))),
        ({"max_completion_tokens": 5}, Options(max_tokens=5)),
        ({"logprobs": True}, Options(logprobs=0)),
        ({"logprobs": False, "top_logprobs": 0}, Options()),
        ({"response_format": {"type": "text"}}, Options()),
        ({"response_format": {"type": "json_object"}}, Options(schema={"type": "object"})),
        ({"response_format": json_schema(SCHEMA)}, Options(schema=SCHEMA)),
        ({"temperature": 0}, Options(temperature=0)),
    ],
)
def test_openais_fields_map_to_options(given: dict[str, object], options: Options) -> None:
    assert read(request(**given)).options == options


@pytest.mark.parametrize(
    "given",
    [
        {"modalities": ["text"]},
        {"tools": []},
        {"tool_choice": "auto"},
        {"parallel_tool_calls": True},
        {"response_format": {"type": "text"}},
        {"n": 1},
        {"stop": ""},
        {"stop": []},
        {"stop": ["", ""]},
        {"seed": -1},
        {"stream_options": {"continuous_usage_stats": True}},
        {"stream": False},
        {"chat_template_kwargs": {}},
        {"reasoning": {}},
        {"reasoning_effort": "low"},
        {"thinking": {"type": "adaptive"}},
    ],
    ids=str,
)
def test_values_that_ask_for_nothing_else_are_accepted(given: Mapping[str, object]) -> None:
    """Some clients send every field, with its default."""
    assert read(request(**given)) == read(request())


@pytest.mark.parametrize("name", sorted({*ChatRequest.__struct_fields__} - {"model", "messages"}))
def test_null_means_default(name: str) -> None:
    """Some clients send null for every unused field."""
    assert read(request(**{name: None})) == read(request())


@pytest.mark.parametrize("name", sorted({*fields.CHAT.only, *fields.CHAT.refused}))
def test_unsupported_fields_are_refused_by_name(name: str) -> None:
    """Rows 15 and 18: ignoring a field changes the answer; a template is a program from an untrusted client."""
    error = refused(request(**{name: {"1": 5}}))
    assert (error.status, error.param, error.code) == (400, name, "unsupported_parameter")
    assert name in error.message


@pytest.mark.parametrize(("given", "seed"), [(0, 0), (7, 7), (2**63 - 1, 2**63 - 1), (-2, 2**63 - 2), (-(2**63), 0)])
def test_negative_seeds_are_seeds(given: int, seed: int) -> None:
    """OpenAI's seeds are whole numbers of 64 bits with a sign."""
    assert read(request(seed=given)).options.seed == seed


def test_empty_stop_strings_are_left_out() -> None:
    assert read(request(stop=["a", "", "b"])).options.stop == ("a", "b")


def test_tools_and_their_choice() -> None:
    """A named function is a required call."""
    parsed = read(request(tools=[TOOL], tool_choice=NAMED, parallel_tool_calls=False))
    assert parsed.tools == (TOOL,)
    assert parsed.tool_choice == ToolChoice("required", "weather", parallel=False)
    assert read(request(tools=[TOOL], tool_choice="none")).tool_choice == ToolChoice("none")


def test_a_conversation_with_tool_calls() -> None:
    """Clients send an assistant message back as they got it: with nulls, without content."""
    message: dict[str, object] = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
    }
    asked = {**message, "function_call": None, "tool_calls": [{**CALL, "index": 0}]}  # as a stream numbers it
    result = {"role": "tool", "tool_call_id": "call_1", "content": [text("rain")], "name": "weather"}
    parsed = read(request(user("and now?"), asked, result, {"role": "assistant", "content": "It rains."}))
    assert parsed.messages == (
        RequestMessage("user", ("and now?",)),
        RequestMessage("assistant", (), (ToolCall("weather", '{"city": "Bergen"}'),)),
        RequestMessage("tool", ("rain",)),
        RequestMessage("assistant", ("It rains.",)),
    )


def test_a_refusal_is_text() -> None:
    """The refusal of another model is part of the conversation."""
    parts = [{"type": "refusal", "refusal": "No."}]
    for message in ({"role": "assistant", "content": parts}, {"role": "assistant", "refusal": "No."}):
        assert read(request(message)).messages == (RequestMessage("assistant", ("No.",)),)


def test_system_messages_keep_their_place() -> None:
    """Agents add instructions later. `ChatTemplate` knows whether the model's template shows them."""
    system, developer = {"role": "system", "content": "Be brief."}, {"role": "developer", "content": [text("Be kind.")]}
    assert read(request(system, user("hi"), developer)).messages == (
        RequestMessage("system", ("Be brief.",)),
        RequestMessage("user", ("hi",)),
        RequestMessage("system", ("Be kind.",)),
    )


def content(part: object, role: str = "user") -> dict[str, Any]:
    return request({"role": role, "content": [part]})


PART = "messages[0].content[0]"
WRONG: list[tuple[object, str | None, str]] = [
    # row 20: wrong types, null messages, unknown role, missing content
    ([], None, "must be an object, not an array"),
    (None, None, "must be an object, not null"),
    ({"model": "vlrun-tiny"}, "messages", "messages is missing"),
    (request(model=5), "model", "must be a string, not a whole number"),
    (request(messages=None), "messages", "must be an array, not null"),
    (request(messages=[]), "messages", "must not be empty"),
    (request(messages=[5]), "messages[0]", "must be an object, not a whole number"),
    (request(messages=[user("hi")] * 513), "messages", "at most 512 elements"),
    (request({"content": "hi"}), "messages[0].role", "is missing"),
    (request({"role": "robot", "content": "hi"}), "messages[0].role", "must be one of system, developer, user, assist"),
    (request({"role": "user"}), "messages[0].content", "is missing"),
    (request({"role": "user", "content": None}), "messages[0].content", "must be a string or an array, not null"),
    (request({"role": "user", "content": []}), "messages[0].content", "must not be empty"),
    (request({"role": "user", "content": {"text": "hi"}}), "messages[0].content", "string or an array, not an object"),
    (request({"role": "assistant", "audio": {"id": "x"}}), "messages[0].audio", "is not supported"),
    (request({**user("hi"), "weight": 1}), "messages[0].weight", "is unknown"),
    # row 10: unsupported parts
    (
        content({"type": "input_video", "video_url": IMAGE}),
        f"{PART}.type",
        "must be a part of type video_url",
    ),
    (
        content({"type": "input_audio"}),
        f"{PART}.type",
        'must be one of text, image_url, file, video_url, video, input_text, input_image, input_file, not "input_',
    ),
    (content({"type": "file"}), f"{PART}.file", "is missing"),
    (content({"type": "file", "file": {"file_id": "x"}}), f"{PART}.file.file_id", "is not supported"),
    (content({"type": "file", "file": {"file_data": IMAGE, "pages": "x"}}), f"{PART}.file.pages", "names no pages"),
    (content({"type": "video_url", "video_url": {"url": IMAGE, "fps": 0}}), f"{PART}.video_url.fps", "must be above 0"),
    (content({"text": "hi"}), f"{PART}.type", "is missing"),
    (content({"text": "hi"}, "system"), f"{PART}.type", "is missing"),
    (content({"type": 5}), f"{PART}.type", "must be a string, not a whole number"),
    (content({"type": "image_url", "image_url": 5}), f"{PART}.image_url", "must be a string or an object, not a whole"),
    (content({"type": "image_url", "image_url": "http://x/"}), f"{PART}.image_url", "fetches no URLs"),
    (content({"type": "input_image", "file_id": "x"}), f"{PART}.file_id", "is not supported"),
    (content(image(detail="huge")), f"{PART}.image_url.detail", "must be one of auto, high, low, original"),
    (content(image(url="file:///etc/passwd")), f"{PART}.image_url.url", ""),
    (content(image(), "system"), f"{PART}.type", 'must be one of text, input_text, not "image_url"'),
    (content(image(), "assistant"), f"{PART}.type", 'must be one of text, refusal, not "image_url"'),
    # calls
    (
        request({"role": "tool", "tool_call_id": "x", "content": "hi"}),
        "messages[0].tool_call_id",
        "not the id of an earlier call",
    ),
    (request({"role": "tool", "content": "hi"}), "messages[0].tool_call_id", "is missing"),
    # rows 13 to 16: numbers and strings out of bounds
    (request(n=10**9), "n", "must be at most 8"),
    (request(n=0), "n", "must be at least 1"),
    (request(max_tokens=-1), "max_tokens", "must be at least 1"),
    (request(max_tokens=10**12), "max_tokens", "must be at most 1048576"),
    (request(max_tokens=1, max_completion_tokens=2), "max_tokens", "differ"),
    (request(max_tokens=True), "max_tokens", "must be a whole number, not true or false"),
    (request(max_tokens=1.5), "max_tokens", "must be a whole number, not a number"),
    (request(temperature=float("nan")), "temperature", "must be at least 0"),
    (request(temperature=float("inf")), "temperature", "must be at most 2"),
    (request(temperature="warm"), "temperature", "must be a number, not a string"),
    (request(top_p=2), "top_p", "must be at most 1"),
    (request(top_p=0), "top_p", "must be above 0"),
    (request(top_k=-2), "top_k", "must be at least -1"),
    (request(min_p=2), "min_p", "must be at most 1"),
    (request(seed=2**70), "seed", "must be at most 9223372036854775807"),
    (request(seed=-(2**63) - 1), "seed", "must be at least -9223372036854775808"),
    (request(presence_penalty=3), "presence_penalty", "must be at most 2"),
    (request(repetition_penalty=0), "repetition_penalty", "must be at least 0.01"),
    (request(logprobs=True, top_logprobs=10**6), "top_logprobs", "must be at most 20"),
    (request(top_logprobs=5), "top_logprobs", "needs logprobs"),
    (request(stop=["a"] * 10**4), "stop", "may have at most 16 elements"),
    (request(stop="a" * 257), "stop", "at most 256 characters"),
    (request(logit_bias={"1": 100}), "logit_bias", "is not supported"),
    # fields that contradict each other
    (request(stream=True, stream_options={"chunk_size": 1}), "stream_options.chunk_size", "is unknown"),
    (request(stop="x", response_format={"type": "json_object"}), "stop", "would cut the JSON"),
    (request(modalities=["text", "audio"]), "modalities", "is not supported"),
    (request(response_format={"type": "xml"}), "response_format.type", "must be one of text, json_object, json_schema"),
    (request(response_format={"type": "json_schema"}), "response_format.json_schema", "is missing"),
    (request(response_format=json_schema([])), "response_format.json_schema.schema", "must be an object"),
    # tools
    (request(tools=[{"type": "custom", "custom": {}}]), "tools[0].type", 'must be function, not "custom"'),
    (request(tools=[{"type": "function"}]), "tools[0].function", "is missing"),
    (request(tools=[TOOL, TOOL]), "tools[1].function.name", "is taken by another function"),
    (request(tools=[TOOL] * 129), "tools", "at most 128 elements"),
    (request(tools=[{"type": "function", "function": {"name": "a b"}}]), "tools[0].function.name", "1 to 64 of the"),
    (request(tools=[{"type": "function", "function": {"name": "a\n"}}]), "tools[0].function.name", "1 to 64 of the"),
    (request(tool_choice="required"), "tool_choice", "there are no tools"),
    (request(tool_choice=NAMED), "tool_choice", "not among the tools"),
    (request(tools=[TOOL], tool_choice="never"), "tool_choice", "must be one of auto, none, required"),
    (request(tools=[TOOL], tool_choice={"type": "allowed_tools"}), "tool_choice.type", "must be function"),
]


@pytest.mark.parametrize(("value", "param", "expected"), WRONG)
def test_invalid_requests_are_refused_with_their_field(value: object, param: str | None, expected: str) -> None:
    """Rows 10, 13 to 16, 18 and 20: a short 400 that names the field, without text of msgspec."""
    error = refused(value)
    assert (error.status, error.param) == (400, param)
    assert expected in error.message
    assert not any(fragment in error.message for fragment in ("`", "$", "Expected", "array`"))
    assert len(error.message) < 300


def test_a_text_may_be_a_part_without_a_type() -> None:
    """Older releases of Frigate send it so."""
    parsed = read(request(user(image(detail="low"), "How many?")))
    assert parsed.messages[0].parts[1] == "How many?"
    limits = ServerLimits(max_text=3)
    assert refused(request(user(image(), "abcd")), limits).param == "messages[0].content[1]"


def test_a_request_without_a_model_goes_to_the_served_one() -> None:
    """Docling's default has no model."""
    without = {name: value for name, value in request().items() if name != "model"}
    assert read(without) == read(request()) == read(request(model=None))


def test_video_has_its_own_error_code() -> None:
    """Row 10: clients can tell an unsupported feature from a bad file."""
    assert refused(content({"type": "input_video"})).code == "unsupported_video"


@pytest.mark.parametrize("arguments", ["[]", "{", "null", '{"a": 1, "a": 2}', "{}{}", '{"a": NaN}'])
def test_arguments_of_a_call_must_be_an_object(arguments: str) -> None:
    """They are in the prompt verbatim: other text could end the call early."""
    call = {**CALL, "function": {"name": "weather", "arguments": arguments}}
    error = refused(request({"role": "assistant", "tool_calls": [call]}))
    assert error.param == "messages[0].tool_calls[0].function.arguments"
    assert "must be the JSON text of an object" in error.message


@pytest.mark.parametrize("name", ["../../x", "Vlrun-Tiny", "", "x" * 2**20])
def test_another_model_is_not_found(name: str) -> None:
    """Row 21: no path, no alias, and the message does not repeat a name of 1 MB."""
    error = refused(request(model=name))
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert len(error.message) < 200
    assert read(request(model="other")) == read(request())


def test_text_is_counted_over_the_whole_request() -> None:
    """Also over many short messages, tools and calls."""
    limits = ServerLimits(max_text=100)
    assert read(request(*[user("x" * 50)] * 2), limits).messages
    assert refused(request(*[user("x" * 50)] * 2, user("y")), limits).param == "messages[2].content"
    assert refused(request(user(text("x" * 90), text("x" * 11))), limits).param == "messages[0].content[1].text"
    too_long = {"type": "function", "function": {"name": "f", "description": "d" * 101}}
    assert refused(request(tools=[too_long]), limits).param == "tools[0].function.description"
    large = {"type": "function", "function": {"name": "f", "parameters": {"description": "d" * 101}}}
    assert refused(request(tools=[large]), limits).param == "tools[0].function.parameters"
    called = {**CALL, "function": {"name": "f", "arguments": json.dumps({"a": "x" * 100})}}
    error = refused(request({"role": "assistant", "tool_calls": [called]}), limits)
    assert error.param == "messages[0].tool_calls[0].function.arguments"


def test_images_are_counted_over_the_whole_request() -> None:
    """Row 9: 50 images are refused before they are decoded."""
    limits = ServerLimits(max_images=3)
    assert len(read(request(user(image(), image()), user(image())), limits).images) == 3
    error = refused(request(user(image(), image()), user(image(), image())), limits)
    assert error.param == "messages[1].content[1].image_url.url"
    assert "at most 3 images" in error.message


def test_schema_size_is_limited_in_bytes() -> None:
    """Row 17."""
    limits, too_long = ServerLimits(max_schema_bytes=100), {"description": "ä" * 45}
    error = refused(request(response_format=json_schema(too_long)), limits)
    assert error.param == "response_format.json_schema.schema"
    tool = {"type": "function", "function": {"name": "f", "parameters": too_long}}
    assert refused(request(tools=[tool]), limits).param == "tools[0].function.parameters"
    assert read(request(response_format=json_schema({"description": "a" * 45})), limits).options.schema


def test_reasoning_of_an_earlier_answer_is_read() -> None:
    """Clients send ``reasoning_content`` back as they got it; null is what other servers write for none."""
    called = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for more in ({"content": "Six."}, {"content": None, "tool_calls": [called]}, {"content": None}):
        messages = [user("hi"), {"role": "assistant", "reasoning_content": "Let me see.", **more}, user("hi")]
        assert read(request(*messages)).messages[1].reasoning == "Let me see."
    messages = [user("hi"), {"role": "assistant", "reasoning_content": None, "content": "Six."}, user("hi")]
    assert read(request(*messages)).messages[1].reasoning is None


def test_the_thinking_budget_is_an_option() -> None:
    assert read(request(thinking_token_budget=0)).options == Options(thinking_tokens=0)
    assert refused(request(thinking_token_budget=-1)).param == "thinking_token_budget"
