"""Parsing of requests to /v1/messages: each field of Anthropic's clients is honoured, ignored or refused by name."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from tests.runtime.server.api.chat_requests import IMAGE
from vlrun.server.api.anthropic import parsing
from vlrun.server.api.anthropic.schemas import CountTokensRequest, MessagesRequest
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import EncodedImage, GenerationRequest, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Options
from vlrun.types.turn import ToolCall, ToolChoice

BASE64 = IMAGE.partition(",")[2]
FILE = base64.b64decode(BASE64)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"name": "weather", "description": "The weather.", "input_schema": SCHEMA}
FUNCTION = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": SCHEMA}}
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}}
DOCUMENT = {"type": "base64", "media_type": "application/pdf", "data": BASE64}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Tromsø"}}


def user(*content: object) -> dict[str, Any]:
    return {"role": "user", "content": list(content) if content else "hi"}


def assistant(*content: object) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def text(content: str = "hi", **more: object) -> dict[str, Any]:
    return {"type": "text", "text": content, **more}


def result(content: object = "rain", **more: object) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **more}


def request(*messages: object, **more: object) -> dict[str, Any]:
    return {"model": "tiny", "max_tokens": 50, "messages": list(messages) or [user()], **more}


def read(*messages: object, **more: object) -> GenerationRequest:
    return parsing.parse(request(*messages, **more), ["tiny"], ServerLimits()).request


def refused(*messages: object, **more: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(*messages, **more)
    return caught.value


def test_claude_codes_request() -> None:
    """System blocks with cache marks, reminders as texts of their own, thinking, effort, context edits, metadata."""
    parsed = read(
        user(text("<system-reminder>today</system-reminder>"), text("What is the weather?", **CACHED)),
        assistant(
            {"type": "thinking", "thinking": "I ask.", "signature": "abc"},
            {"type": "redacted_thinking", "data": "xyz"},
            text("Let me see."),
            {**CALL, "caller": {"type": "direct"}},
        ),
        user({**result([text("rain")]), "is_error": False, **CACHED}, text("Go on.")),
        system=[text("You are Claude Code.", **CACHED), text("Be concise.", **CACHED)],
        tools=[{**TOOL, **CACHED, "eager_input_streaming": True}],
        metadata={"user_id": "user_1"},
        thinking={"type": "adaptive"},
        output_config={"effort": "high"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        stream=True,
        temperature=1,
    )
    assert parsed.messages == (
        RequestMessage("system", ("You are Claude Code.", "\n\nBe concise.")),
        RequestMessage("user", ("<system-reminder>today</system-reminder>", "What is the weather?")),
        RequestMessage("assistant", ("Let me see.",), (ToolCall("weather", '{"city": "Tromsø"}'),), "I ask."),
        RequestMessage("tool", ("rain",)),
        RequestMessage("user", ("Go on.",)),
    )
    assert parsed.tools == (FUNCTION,)
    assert parsed.options == Options(max_tokens=50, temperature=1)
    assert parsed.stream


def test_images() -> None:
    """In messages and in results, as base64 or as data URLs."""
    by_url = {"type": "image", "source": {"type": "url", "url": IMAGE}, "transformations": {}}
    parsed = read(
        user(PICTURE, by_url, text()),
        assistant(CALL),
        user(result([text("a map"), PICTURE])),
    )
    assert parsed.images == (
        EncodedImage(FILE, "auto", "messages[0].content[0].source.data"),
        EncodedImage(FILE, "auto", "messages[0].content[1].source.url"),
        EncodedImage(FILE, "auto", "messages[2].content[0].content[1].source.data"),
    )


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"max_tokens": 7, "temperature": 0, "top_k": 5, "top_p": 0.5}, Options(7, 0, 5, 0.5, thinking_tokens=0)),
        ({"stop_sequences": ["a", "b"]}, Options(50, stop=("a", "b"), thinking_tokens=0)),
        ({"stop_sequences": []}, Options(50, thinking_tokens=0)),
        ({"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, Options(50, schema=SCHEMA)),
        ({"output_format": {"type": "json_schema", "schema": SCHEMA}}, Options(50, schema=SCHEMA)),
        ({"thinking": {"type": "disabled"}}, Options(50, thinking_tokens=0)),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, Options(50, thinking_tokens=1024)),
        ({"thinking": {"type": "adaptive"}}, Options(50)),
    ],
    ids=str,
)
def test_fields_are_translated(given: Mapping[str, object], options: Options) -> None:
    without_thinking = {} if "thinking" in given or options.thinking_tokens == 0 else {"thinking": {"type": "adaptive"}}
    assert read(**given, **without_thinking).options == options


def test_without_thinking_a_model_answers_at_once() -> None:
    """Clients that do not ask for it read the text from the first block."""
    assert read().options.thinking_tokens == 0


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        (None, ToolChoice()),
        ({"type": "auto"}, ToolChoice()),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(parallel=False)),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "tool", "name": "weather"}, ToolChoice("required", "weather")),
        ({"type": "none"}, ToolChoice("none")),
    ],
)
def test_tool_choices(given: object, choice: ToolChoice) -> None:
    assert read(tools=[TOOL], tool_choice=given).tool_choice == choice


def test_results_without_text() -> None:
    """A call that failed must not look like a success."""
    messages = (user(), assistant(CALL))
    assert read(*messages, user(result(None))).messages[-1] == RequestMessage("tool", ("",))
    assert read(*messages, user(result("", is_error=True))).messages[-1] == RequestMessage("tool", (parsing.FAILED,))
    assert read(*messages, user(result("no", is_error=True))).messages[-1] == RequestMessage("tool", ("no",))


def test_several_results_are_messages_of_their_own() -> None:
    other = {**CALL, "id": "toolu_2"}
    parsed = read(user(), assistant(CALL, other), user(result(), {**result("sun"), "tool_use_id": "toolu_2"}))
    assert parsed.messages[2:] == (RequestMessage("tool", ("rain",)), RequestMessage("tool", ("sun",)))


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([assistant(text())], "messages[0].role"),
        ([user(), assistant(text("The answer is ("))], "messages[1].role"),
        ([user(result())], "messages[0].content[0].tool_use_id"),
        ([user(), assistant(CALL), user(text(), result())], "messages[2].content[1]"),
        ([user({"type": "document", "source": {}})], "messages[0].content[0].source.type"),
        ([user({"type": "document", "source": DOCUMENT, "pages": "0"})], "messages[0].content[0].pages"),
        ([user({"type": "document", "source": DOCUMENT, "context": "x"})], "messages[0].content[0].context"),
        ([user({"type": "video"})], "messages[0].content[0].type"),
        ([user({"type": "image", "source": {"type": "file", "file_id": "1"}})], "messages[0].content[0].source.type"),
        (
            [user({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}})],
            "messages[0].content[0].source.url",
        ),
        (
            [user({**PICTURE, "transformations": {"oversized_image": "error"}})],
            "messages[0].content[0].transformations",
        ),
        ([{"role": "robot", "content": "hi"}], "messages[0].role"),
        ([{"role": "user", "content": []}], "messages[0].content"),
    ],
    ids=str,
)
def test_invalid_messages_are_refused_by_name(messages: list[object], param: str) -> None:
    error = refused(*messages)
    assert (error.status, error.param) == (400, param)
    assert param in error.message or error.code in ("url_not_allowed", "unsupported_video")


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"name": "m"}]}, "mcp_servers"),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "context_management"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{**TOOL, "type": "bash_20250124"}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"n": 2}, "n"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_name(given: Mapping[str, object], param: str) -> None:
    error = refused(**given)
    assert (error.status, error.param) == (400, param)


NAMES = sorted({*MessagesRequest.__struct_fields__, "unknown"} - {"model", "messages", "max_tokens"})


@pytest.mark.parametrize("name", NAMES)
def test_null_means_default(name: str) -> None:
    assert read(**{name: None}) == read()


def test_a_count_takes_the_fields_of_a_request() -> None:
    """Clients count what they are about to send."""
    whole = request(user(PICTURE, text()), system="Be brief.", tools=[TOOL], thinking={"type": "disabled"})
    del whole["max_tokens"]
    counted = parsing.parse_count(whole, ["tiny"], ServerLimits())
    assert counted.messages == read(*whole["messages"], system="Be brief.").messages
    assert counted.tools == (FUNCTION,)
    assert {*CountTokensRequest.__struct_fields__} <= {*MessagesRequest.__struct_fields__}


def test_reasoning_can_be_left_out_of_the_answer() -> None:
    def shows(thinking: object) -> bool:
        return parsing.parse(request(thinking=thinking), ["tiny"], ServerLimits()).shows_reasoning

    assert shows({"type": "adaptive"})
    assert not shows({"type": "enabled", "budget_tokens": 1024, "display": "omitted"})


def test_other_models_are_not_found() -> None:
    assert refused(model="claude-opus-5").status == 404
