"""The table of unused fields, for every object of a request."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.runtime.server.api.chat_requests import CALL, IMAGE, NAMED, TOOL, image, request, text, user
from vlrun.server.api import chat, fields, responses, tokenize
from vlrun.server.api.anthropic import parsing as anthropic
from vlrun.server.api.anthropic.schemas import MessagesRequest
from vlrun.server.api.chat_schemas import ChatRequest
from vlrun.server.api.fields import UnusedFields
from vlrun.server.api.ollama import parsing as ollama
from vlrun.server.api.ollama.schemas import OllamaChatRequest, OllamaGenerateRequest
from vlrun.server.api.responses_schemas import ResponsesRequest
from vlrun.server.api.tokenize import TokenizeRequest
from vlrun.server.api.validation import places_of_structs
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import ServerLimits

SCHEMA: dict[str, Any] = {"name": "n", "schema": {"type": "object"}}
INPUT_TEXT, INPUT_IMAGE = {"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": IMAGE}
INPUT_FILE = {"type": "input_file", "file_data": IMAGE}
FILE = {"type": "file", "file": {"file_data": IMAGE}}
CLIP = IMAGE.replace("image/png", "video/mp4")
VIDEO_URL, VIDEO = {"type": "video_url", "video_url": {"url": CLIP}}, {"type": "video", "video": CLIP}
CHAT = request(
    {"role": "system", "content": [text("Be brief.")]},
    user(text("hi"), image(), INPUT_TEXT, INPUT_IMAGE, INPUT_FILE, FILE, VIDEO_URL, VIDEO),
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": [text("rain"), image()]},
    tools=[TOOL],
    tool_choice=NAMED,
    stream=True,
    stream_options={},
    response_format={"type": "json_schema", "json_schema": SCHEMA},
    reasoning={"effort": "low"},
    thinking={"type": "enabled"},
    chat_template_kwargs={},
    vlrun={"votes": 1, "items": [], "steps": False, "language": "en"},
)
RESPONSES: dict[str, Any] = {
    "model": "vlrun-tiny",
    "input": [
        {"role": "user", "content": [INPUT_TEXT, INPUT_IMAGE, INPUT_FILE]},
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "a"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "No."}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [INPUT_TEXT, INPUT_IMAGE, INPUT_FILE]},
    ],
    "text": {"format": {"type": "json_schema", **SCHEMA}},
    "tools": [{"type": "function", "name": "f"}],
    "tool_choice": {"type": "function", "name": "f"},
    "reasoning": {},
    "stream_options": {},
}
DATA = IMAGE.partition(",")[2]
SOURCE = {"type": "base64", "media_type": "image/png", "data": DATA}
BLOCKS = [text("hi"), {"type": "image", "source": SOURCE}, {"type": "document", "source": SOURCE}]
FORMAT = {"type": "json_schema", "schema": {"type": "object"}}
MESSAGES: dict[str, Any] = {
    "model": "vlrun-tiny",
    "max_tokens": 9,
    "system": [text("Be brief.")],
    "messages": [
        {"role": "user", "content": BLOCKS},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "a"},
                {"type": "redacted_thinking"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": BLOCKS}]},
        {"role": "system", "content": [text("Be brief.")]},
    ],
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "adaptive"},
    "output_config": {"format": FORMAT},
    "output_format": FORMAT,
}
OLLAMA: dict[str, Any] = {
    "model": "vlrun-tiny",
    "messages": [
        {"role": "user", "content": "hi", "images": [DATA]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
    ],
    "options": {},
    "tools": [{"type": "function", "function": {"name": "f"}}],
}
PLACES: list[tuple[str, dict[str, Any], str, UnusedFields]] = [
    *(
        ("chat", CHAT, place, unused)
        for place, unused in {
            "": fields.CHAT,
            "messages[0]": fields.MESSAGE,
            "messages[0].content[0]": fields.PART,
            "messages[1]": fields.MESSAGE,
            "messages[1].content[0]": fields.PART,
            "messages[1].content[1]": fields.PART,
            "messages[1].content[1].image_url": fields.IMAGE,
            "messages[1].content[2]": fields.PART,
            "messages[1].content[3]": fields.IMAGE,
            "messages[1].content[4]": fields.FILE,
            "messages[1].content[5]": fields.PART,
            "messages[1].content[5].file": fields.FILE,
            "messages[1].content[6]": fields.PART,
            "messages[1].content[6].video_url": fields.VIDEO,
            "messages[1].content[7]": fields.PART,
            "messages[2]": fields.ASSISTANT,
            "messages[2].content[0]": fields.PART,
            "messages[2].tool_calls[0]": fields.CALL,
            "messages[2].tool_calls[0].function": fields.CALL,
            "messages[3]": fields.MESSAGE,
            "messages[3].content[1].image_url": fields.IMAGE,
            "tools[0]": fields.TOOL,
            "tools[0].function": fields.TOOL,
            "tool_choice": fields.NOTHING,
            "tool_choice.function": fields.NOTHING,
            "stream_options": fields.STREAM_OPTIONS,
            "response_format": fields.NOTHING,
            "response_format.json_schema": fields.NOTHING,
            "reasoning": fields.REASONING,
            "thinking": fields.THINKING,
            "chat_template_kwargs": fields.TEMPLATE_ARGUMENTS,
            "vlrun": fields.NOTHING,
        }.items()
    ),
    *(
        ("responses", RESPONSES, place, unused)
        for place, unused in {
            "": fields.RESPONSES,
            "input[0]": fields.MESSAGE,
            "input[0].content[0]": fields.PART,
            "input[0].content[1]": fields.IMAGE,
            "input[0].content[2]": fields.FILE,
            "input[1]": fields.REASONING_ITEM,
            "input[1].content[0]": fields.PART,
            "input[2]": fields.ITEM,
            "input[2].content[0]": fields.OUTPUT_TEXT,
            "input[2].content[1]": fields.PART,
            "input[3]": fields.CALL | fields.ITEM,
            "input[4]": fields.ITEM,
            "input[4].output[1]": fields.IMAGE,
            "input[4].output[2]": fields.FILE,
            "text": fields.TEXT,
            "text.format": fields.NOTHING,
            "tools[0]": fields.TOOL,
            "tool_choice": fields.NOTHING,
            "reasoning": fields.REASONING,
            "stream_options": fields.STREAM_OPTIONS,
        }.items()
    ),
    ("tokenize", {"messages": [user("hi")]}, "", fields.TOKENIZE),
    *(
        ("messages", MESSAGES, place, unused)
        for place, unused in {
            "": fields.MESSAGES,
            "system[0]": fields.BLOCK,
            "messages[0]": fields.MESSAGE,
            "messages[0].content[0]": fields.BLOCK,
            "messages[0].content[1]": fields.IMAGE_BLOCK,
            "messages[0].content[1].source": fields.NOTHING,
            "messages[0].content[2]": fields.DOCUMENT_BLOCK,
            "messages[0].content[2].source": fields.NOTHING,
            "messages[1]": fields.MESSAGE,
            "messages[1].content[0]": fields.THINKING_BLOCK,
            "messages[1].content[1]": fields.REDACTED_BLOCK,
            "messages[1].content[2]": fields.TOOL_USE,
            "messages[2].content[0]": fields.TOOL_RESULT,
            "messages[2].content[0].content[0]": fields.BLOCK,
            "messages[2].content[0].content[1]": fields.IMAGE_BLOCK,
            "messages[2].content[0].content[1].source": fields.NOTHING,
            "messages[2].content[0].content[2]": fields.DOCUMENT_BLOCK,
            "messages[2].content[0].content[2].source": fields.NOTHING,
            "messages[3]": fields.MESSAGE,
            "messages[3].content[0]": fields.BLOCK,
            "tools[0]": fields.ANTHROPIC_TOOL,
            "tool_choice": fields.NOTHING,
            "thinking": fields.NOTHING,
            "output_config": fields.OUTPUT_CONFIG,
            "output_config.format": fields.OUTPUT_FORMAT,
            "output_format": fields.OUTPUT_FORMAT,
        }.items()
    ),
    *(
        ("ollama", OLLAMA, place, unused)
        for place, unused in {
            "": fields.OLLAMA_CHAT,
            "options": fields.OLLAMA_OPTIONS,
            "messages[0]": fields.OLLAMA_MESSAGE,
            "messages[1].tool_calls[0]": fields.OLLAMA_CALL,
            "messages[1].tool_calls[0].function": fields.CALL,
            "tools[0]": fields.TOOL,
            "tools[0].function": fields.TOOL,
        }.items()
    ),
    ("prompt", {"model": "vlrun-tiny", "prompt": "hi"}, "", fields.OLLAMA_PROMPT),
    ("prompt", {"model": "vlrun-tiny", "prompt": "hi", "options": {}}, "options", fields.OLLAMA_OPTIONS),
]
PARSERS: dict[str, Callable[..., object]] = {
    "chat": chat.parse,
    "responses": responses.parse,
    "tokenize": tokenize.parse,
    "messages": anthropic.parse,
    "ollama": ollama.parse_chat,
    "prompt": ollama.parse_prompt,
}
ANYTHING: tuple[object, ...] = (5, -0.5, "x", True, [1], {"a": [None]}, [], "")


def with_field(value: dict[str, Any], place: str, name: str, member: object) -> dict[str, Any]:
    """A copy of a request with a field more in the object at a place."""
    changed: Any = json.loads(json.dumps(value))
    found = changed
    for key, index in re.findall(r"(\w+)|\[(\d+)\]", place):
        found = found[int(index)] if index else found[key]
    found[name] = member
    return dict(changed)


def parsed(endpoint: str, value: object) -> object:
    return PARSERS[endpoint](value, ["vlrun-tiny"], ServerLimits())


@pytest.mark.parametrize(
    ("endpoint", "value", "place", "unused"), PLACES, ids=[f"{endpoint} {place}" for endpoint, _, place, _ in PLACES]
)
def test_every_field_of_the_table_does_what_it_says(
    endpoint: str, value: dict[str, Any], place: str, unused: UnusedFields
) -> None:
    """Guards against refusals of hints, and against fields that change the answer and are ignored."""
    plain = parsed(endpoint, value)
    ignored: list[tuple[str, object]] = [
        (name, ANYTHING[number % len(ANYTHING)]) for number, name in enumerate(sorted(unused.ignored))
    ]
    ignored += [(name, member) for name, members in unused.only.items() for member in members]
    ignored += [(name, None) for name in ("future_field", *unused.ignored, *unused.only, *unused.refused)]
    for name, member in ignored:
        assert parsed(endpoint, with_field(value, place, name, member)) == plain, name
    for name in ("future_field", *unused.only, *unused.refused):
        with pytest.raises(ApiError) as caught:
            parsed(endpoint, with_field(value, place, name, {"x": 1}))
        error = caught.value
        assert (error.status, error.param) == (400, f"{place}.{name}".lstrip("."))
        assert error.code == ("unknown_parameter" if name == "future_field" else "unsupported_parameter")
        assert name in error.message


@pytest.mark.parametrize("name", ["ignore_eos", "min_tokens", "skip_special_tokens"])
def test_zero_is_not_false(name: str) -> None:
    for member in (0, False):
        if (member is False) == (name == "min_tokens") or name == "skip_special_tokens":
            with pytest.raises(ApiError):
                parsed("chat", with_field(CHAT, "", name, member))


def test_all_objects_are_tested_and_no_field_is_both_used_and_ignored() -> None:
    kinds = (ChatRequest, ResponsesRequest, TokenizeRequest, MessagesRequest, OllamaChatRequest, OllamaGenerateRequest)
    for kind in kinds:
        for struct, places in places_of_structs(kind).items():
            unused, used = struct.unused, set(struct.__struct_fields__)
            assert not used & {*unused.ignored, *unused.only, *unused.refused}, struct
            assert {re.sub(r"\[\d+\]", "[]", place) for _, _, place, _ in PLACES} >= set(places), struct


def test_free_objects_keep_their_nulls() -> None:
    """A null in a schema is a value."""
    schema = {"type": "object", "properties": {"a": {"enum": [None, {"b": None}]}}, "x": None}
    function = {"type": "function", "function": {"name": "f", "parameters": schema}}
    parsed_request = chat.parse(request(tools=[function]), ["vlrun-tiny"], ServerLimits())
    assert parsed_request.tools[0]["function"]["parameters"] == schema  # type: ignore[index] # a function
