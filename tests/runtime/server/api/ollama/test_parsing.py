"""Parsing of requests to Ollama's API: each field that its clients send is honoured, ignored or refused by name."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from tests.runtime.server.api.chat_requests import IMAGE
from vlrun.server.api.ollama import parsing
from vlrun.server.api.ollama.schemas import ModelOptions, OllamaChatRequest, OllamaGenerateRequest
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import EncodedImage, GenerationRequest, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.options import RANGES, Options
from vlrun.types.turn import ToolCall

BASE64 = IMAGE.partition(",")[2]
FILE = base64.b64decode(BASE64)
SCHEMA = {"type": "object", "properties": {"color": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": SCHEMA}}


def user(content: str = "hi", **more: object) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def chat(*messages: object, **more: object) -> GenerationRequest:
    value = {"model": "vlrun-tiny", "messages": list(messages) or [user()], **more}
    return parsing.parse_chat(value, ["vlrun-tiny"], ServerLimits()).request


def prompt(text: Any = "hi", **more: object) -> GenerationRequest:
    value = {"model": "vlrun-tiny", "prompt": text, **more}
    return parsing.parse_prompt(value, ["vlrun-tiny"], ServerLimits()).request


def refused(*messages: object, **more: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        chat(*messages, **more)
    return caught.value


def test_home_assistants_request() -> None:
    """Its fields, and a call with its result as its client writes them."""
    call = {"function": {"name": "HassTurnOn", "arguments": {"name": "lamp", "area": "küche"}}}
    parsed = chat(
        {"role": "system", "content": "You are a voice assistant."},
        user("turn on the lamp", images=[BASE64]),
        {"role": "assistant", "content": "", "thinking": "a lamp", "tool_calls": [call]},
        {"role": "tool", "content": '{"success": true}', "tool_name": "HassTurnOn"},
        tools=[TOOL],
        stream=True,
        keep_alive="-1s",
        options={"num_ctx": 8192},
        think=False,
    )
    called = ToolCall("HassTurnOn", '{"name": "lamp", "area": "küche"}')
    assert parsed.messages == (
        RequestMessage("system", ("You are a voice assistant.",)),
        RequestMessage("user", (EncodedImage(FILE, "auto", "messages[1].images[0]"), "turn on the lamp")),
        RequestMessage("assistant", (), (called,), "a lamp"),
        RequestMessage("tool", ('{"success": true}',)),
    )
    assert parsed.tools == (TOOL,)
    assert parsed.options == Options(thinking_tokens=0)
    assert parsed.stream


def test_a_prompt_with_images() -> None:
    parsed = prompt("What is this?", system="Be brief.", images=[BASE64, IMAGE], stream=False)
    pictures = (EncodedImage(FILE, "auto", "images[0]"), EncodedImage(FILE, "auto", "images[1]"))
    assert parsed.messages == (
        RequestMessage("system", ("Be brief.",)),
        RequestMessage("user", (*pictures, "What is this?")),
    )
    assert not parsed.stream


@pytest.mark.parametrize("empty", [prompt(""), prompt(None, system="Be brief."), prompt(keep_alive=0, prompt="")])
def test_an_empty_prompt_asks_only_for_the_model(empty: GenerationRequest) -> None:
    """Clients load a model so; it must not answer a made-up question."""
    assert empty.messages == ()


def test_an_empty_chat_asks_only_for_the_model() -> None:
    assert parsing.parse_chat({"model": "m", "messages": []}, ["m"], ServerLimits()).request.messages == ()
    assert parsing.parse_chat({"model": "m"}, ["m"], ServerLimits()).request.messages == ()


ZERO = [0, -0.0, "0", "0s", "-0s", "0h0m", "0.0s", "0ms"]


@pytest.mark.parametrize("time", [*ZERO, 5, -1, "5m", "1h0m", "0.5s", "10s", "", "s", None], ids=repr)
def test_no_time_to_live_asks_to_unload_the_model(time: object) -> None:
    """The answer said `load`, and `ollama stop` waits for `unload`."""
    value = {"model": "m", "keep_alive": time}
    for parse in (parsing.parse_chat, parsing.parse_prompt):
        assert parse(value, ["m"], ServerLimits()).unloads == (time in ZERO)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"num_predict": 20}, Options(max_tokens=20)),
        ({"num_predict": -1}, Options(max_tokens=RANGES["max_tokens"])),
        ({"num_predict": -2}, Options(max_tokens=RANGES["max_tokens"])),
        ({"temperature": 0, "top_k": 5, "top_p": 0.5, "min_p": 0.1}, Options(None, 0, 5, 0.5, 0.1)),
        ({"top_k": -1}, Options(top_k=0)),
        ({"seed": 7}, Options(seed=7)),
        ({"seed": -1}, Options()),
        ({"stop": ["a", ""]}, Options(stop=("a",))),
        ({"stop": "a"}, Options(stop=("a",))),
        ({"stop": ""}, Options()),
        ({"repeat_penalty": 1.1}, Options(repetition_penalty=1.1)),
        ({"repeat_penalty": 1.1, "repeat_last_n": -1}, Options(repetition_penalty=1.1)),
        (
            {"repeat_penalty": 1.1, "repeat_last_n": 0},
            Options(repetition_penalty=1, presence_penalty=0, frequency_penalty=0),
        ),
        ({"repeat_last_n": 64}, Options()),
        ({"presence_penalty": 0.5, "frequency_penalty": -0.5}, Options(presence_penalty=0.5, frequency_penalty=-0.5)),
        ({"tfs_z": 1, "typical_p": 1, "mirostat": 0, "mirostat_tau": 5.0}, Options()),
        ({"num_ctx": 99, "num_gpu": 1, "num_thread": 8, "use_mmap": True, "numa": False, "unknown": None}, Options()),
    ],
    ids=str,
)
def test_options_are_translated(given: Mapping[str, object], options: Options) -> None:
    assert chat(options=given).options == prompt(options=given).options == options


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"format": "json"}, Options(schema={"type": "object"})),
        ({"format": ""}, Options()),
        ({"format": SCHEMA}, Options(schema=SCHEMA)),
        ({"think": True}, Options()),
        ({"think": "high"}, Options()),
        ({"logprobs": True, "top_logprobs": 2}, Options(logprobs=2)),
        ({"logprobs": False, "top_logprobs": 2}, Options()),
        ({"keep_alive": 300, "truncate": True, "shift": False}, Options()),
    ],
    ids=str,
)
def test_fields_are_translated(given: Mapping[str, object], options: Options) -> None:
    assert chat(**given).options == prompt(**given).options == options


NAMES = sorted({*OllamaChatRequest.__struct_fields__, *OllamaGenerateRequest.__struct_fields__, "unknown"} - {"model"})


@pytest.mark.parametrize("name", NAMES)
def test_null_means_missing(name: str) -> None:
    """Ollama reads null so, and some clients send null for every unused field."""
    messages = {"messages": [user()]} if name != "messages" else {}
    value = {"model": "m", **messages, name: None}
    if name not in {*OllamaGenerateRequest.__struct_fields__} - {*OllamaChatRequest.__struct_fields__}:
        without = {key: member for key, member in value.items() if key != name}
        assert parsing.parse_chat(value, ["m"], ServerLimits()) == parsing.parse_chat(without, ["m"], ServerLimits())
    if name not in ("messages", "tools", "prompt"):
        assert prompt(**{name: None}) == prompt()


@pytest.mark.parametrize("name", ModelOptions.__struct_fields__)
def test_a_null_option_means_missing(name: str) -> None:
    assert chat(options={name: None}) == chat()


@pytest.mark.parametrize("name", ["content", "images", "tool_calls", "thinking", "tool_name", "unknown"])
def test_null_in_a_message_means_missing(name: str) -> None:
    assert chat({"role": "assistant", "content": "a"} | {name: None}).messages[0].role == "assistant"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"options": {"mirostat": 2}}, "options.mirostat"),
        ({"options": {"tfs_z": 0.5}}, "options.tfs_z"),
        ({"options": {"typical_p": 0.5}}, "options.typical_p"),
        ({"options": {"repeat_penalty": 1.1, "repeat_last_n": 64}}, "options.repeat_last_n"),
        ({"options": {"top_p": 0}}, "options.top_p"),
        ({"options": {"unknown": 1}}, "options.unknown"),
        ({"format": "xml"}, "format"),
        ({"think": "deeply"}, "think"),
        ({"unknown": 1}, "unknown"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_name(given: Mapping[str, object], param: str) -> None:
    """Ignoring it would change the answer."""
    error = refused(**given)
    assert (error.status, error.param) == (400, param)
    assert param in error.message


def test_a_length_beyond_all_contexts_is_refused_by_its_own_name() -> None:
    """Ollama's clients show the message only, which spoke of ``max_tokens``."""
    error = refused(options={"num_predict": RANGES["max_tokens"] + 1})
    assert (error.status, error.param) == (400, "options.num_predict")
    assert error.message.startswith("options.num_predict must be at most")


def test_stop_strings_and_a_schema_exclude_each_other() -> None:
    assert refused(options={"stop": ["a"]}, format="json").param == "options.stop"


@pytest.mark.parametrize(
    ("name", "value"),
    [("raw", True), ("suffix", "end"), ("template", "{{ .Prompt }}"), ("context", [1]), ("width", 64), ("steps", 4)],
)
def test_unsupported_fields_of_a_prompt_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ApiError) as caught:
        prompt(**{name: value})
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, name, "unsupported_parameter")
    for neutral in (None, type(value)()):
        assert prompt(**{name: neutral}) == prompt()


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "system", "content": "a", "images": [BASE64]}, "messages[0].images"),
        ({"role": "user", "content": "a", "tool_calls": [{"function": {"name": "f"}}]}, "messages[0].tool_calls"),
        ({"role": "user", "content": "a", "images": ["!"]}, "messages[0].images[0]"),
        ({"role": "user", "content": "a", "images": ["https://example.com/a.png"]}, "messages[0].images[0]"),
        ({"role": "robot", "content": "a"}, "messages[0].role"),
        ({"content": "a"}, "messages[0].role"),
    ],
    ids=str,
)
def test_invalid_messages_are_refused(message: object, param: str) -> None:
    error = refused(message)
    assert (error.status, error.param) == (400, param)


def test_limits_hold_for_images() -> None:
    error = refused(user(images=[BASE64] * 17))
    assert error.status == 400
    assert refused(user(images=[BASE64] * 9), user(images=[BASE64] * 8)).code == "too_many_images"


@pytest.mark.parametrize("wanted", ["tiny", "tiny:latest", "qwen3-vl:2b", "Qwen/Qwen3", "Qwen/Qwen3:latest"])
def test_a_model_has_its_name_with_and_without_a_tag(wanted: str) -> None:
    """Ollama's clients add the tag."""
    names = ["tiny", "qwen3-vl:2b", "Qwen/Qwen3"]
    assert parsing.served_name(wanted, names) == wanted.removesuffix(":latest")
    assert parsing.parse_name({"name": wanted}, names) == wanted.removesuffix(":latest")


@pytest.mark.parametrize("wanted", ["other", "tiny:2b", "qwen3-vl", "qwen3-vl:2b:latest", ""])
def test_other_models_are_not_found(wanted: str) -> None:
    with pytest.raises(ApiError) as caught:
        parsing.served_name(wanted, ["tiny", "qwen3-vl:2b"])
    assert caught.value.status == 404
