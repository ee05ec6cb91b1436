"""Validation errors: messages of msgspec are translated, untrusted names are cut and escaped."""

from __future__ import annotations

import copy
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.server.api.chat_requests import CALL, NAMED, TOOL, image, request, text, user
from vlrun.errors import OptionError
from vlrun.server.api import chat, responses
from vlrun.server.api.chat_schemas import ChatRequest
from vlrun.server.api.validation import convert, without_ignored
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Options

BOUNDS = [
    (field.name, field.type.types[0])
    for field in msgspec.inspect.type_info(ChatRequest).fields  # type: ignore[attr-defined] # a struct
    if isinstance(field.type, msgspec.inspect.UnionType)
    and isinstance(field.type.types[0], msgspec.inspect.IntType | msgspec.inspect.FloatType)
]
OPTION_BOUNDS = [(name, bounds) for name, bounds in BOUNDS if name in Options.__dataclass_fields__]


@pytest.mark.parametrize(("name", "bounds"), OPTION_BOUNDS)
def test_documented_bounds_are_those_of_options(name: str, bounds: Any) -> None:
    """Otherwise a value within the documented bounds would fail without a field, or one beyond would pass."""
    lowest = 0 if name == "seed" else bounds.ge  # negative ones are mapped to others
    for value in filter(lambda bound: bound is not None, (lowest, bounds.le)):
        assert getattr(Options(**{name: value}), name) == value
    if name != "temperature":  # OpenAI's maximum is below that of Options
        with pytest.raises(OptionError):
            Options(**{name: bounds.le + (1 if isinstance(bounds, msgspec.inspect.IntType) else 1e-6)})


FULL = request(
    {"role": "system", "content": [text("Be brief.")]},
    user(text("hi"), image(detail="low")),
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    temperature=1,
    top_p=0.5,
    n=2,
    stop=["x"],
    metadata={"a": "b"},
    tools=[TOOL],
    tool_choice=NAMED,
    stream=True,
    stream_options={"include_usage": True},
    response_format={"type": "text"},
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


KNOWN_MESSAGE = re.compile(
    r"[\w.\[\]\\\"/ -]* (is unknown|is missing|is not supported by this service|must not be empty"
    r"|may have at most \d+ (characters|elements|keys)|must be (at least|above|at most) [-\d.]+"
    r"|must be (an?|true|null|the|one of|1 to 64 of)? ?.+|has a key that is too long)"
    r"|.* (is unknown|is missing)|this version does not support video",
    re.DOTALL,
)


def exists(value: Any, path: str) -> bool:
    """Whether the path leads to a part of the value, or to a field whose name was escaped or cut."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and index and int(index) < len(value):
            value = value[int(index)]
        else:
            return isinstance(value, dict)
    return True


def containers_and_keys(value: object) -> list[tuple[Any, Any]]:
    """All containers in a value, each with each of its keys."""
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        return [(value, key) for key in keys] + [pair for key in keys for pair in containers_and_keys(value[key])]
    return []


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_every_msgspec_error_is_translated(data: st.DataObject) -> None:
    """Guards against a message of the library that the translation does not know."""
    value = copy.deepcopy(FULL)
    container, key = data.draw(st.sampled_from(containers_and_keys(value)))
    match data.draw(st.sampled_from(["replace", "drop", "add"])):
        case "replace":
            container[key] = data.draw(ANYTHING)
        case "drop":
            del container[key]
        case "add" if isinstance(container, dict):
            container[data.draw(st.text(max_size=5))] = data.draw(ANYTHING)
    try:
        plain = without_ignored(value, ChatRequest)
    except ApiError:
        return
    try:
        msgspec.convert(plain, ChatRequest)
    except msgspec.ValidationError:
        with pytest.raises(ApiError) as caught:
            convert(value, ChatRequest)
        error = caught.value
        assert KNOWN_MESSAGE.fullmatch(error.message), error.message
        assert error.param is None or exists(value, error.param) or error.code == "missing_required_parameter"
    else:
        assert convert(value, ChatRequest) == msgspec.convert(plain, ChatRequest)


@pytest.mark.parametrize("name", ["\x1b[31m\r\n", "a" * 10**5, "`$.stream`", "\u202e"])
def test_untrusted_names_are_cut_and_escaped(name: str) -> None:
    """Row 44: error messages reach logs and terminals."""
    keyed = {"model": "vlrun-tiny", "input": "hi", "metadata": {name[:60]: 5}}
    for parse, value in (
        (chat.parse, request(**{name: 1})),
        (chat.parse, request({**user("hi"), name: 1})),
        (responses.parse, keyed),
    ):
        with pytest.raises(ApiError) as caught:
            parse(value, ["vlrun-tiny"], ServerLimits())
        error = caught.value
        assert len(error.message) < 900
        assert (error.message + str(error.param)).isprintable()
        assert (error.message + str(error.param)).isascii()
