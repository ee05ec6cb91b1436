"""What is wrong with a request, in our words: found wherever msgspec refuses, and untrusted text is cut and escaped."""

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
from vlrun.server.api import chat
from vlrun.server.api.chat_schemas import ChatRequest
from vlrun.server.api.validation import convert
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Options

BOUNDS = [
    (field.name, field.type.types[0])
    for field in msgspec.inspect.type_info(ChatRequest).fields  # type: ignore[attr-defined] # a struct
    if isinstance(field.type, msgspec.inspect.UnionType)
    and isinstance(field.type.types[0], msgspec.inspect.IntType | msgspec.inspect.FloatType)
]
OF_OPTIONS = [(name, bounds) for name, bounds in BOUNDS if name in Options.__dataclass_fields__]


@pytest.mark.parametrize(("name", "bounds"), OF_OPTIONS)
def test_bounds_are_within_those_of_options(name: str, bounds: Any) -> None:
    """A bound that the document tells and the options do not keep is a 400 without a field, or none at all."""
    for value in filter(lambda bound: bound is not None, (bounds.ge, bounds.le)):
        assert getattr(Options(**{name: value}), name) == value
    if name != "temperature":  # OpenAI's most is less than ours
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


EXPLAINED = re.compile(
    r"[\w.\[\]\\\"/ -]* (is unknown|is missing|is not supported by this service|must not be empty"
    r"|may have at most \d+ (characters|elements|keys)|must be (at least|above|at most) [-\d.]+"
    r"|must be (an?|true|null|the|one of|1 to 64 of)? ?.+|has a key that is too long)"
    r"|.* (is unknown|is missing)|this version does not support video",
    re.DOTALL,
)


def exists(value: Any, path: str) -> bool:
    """Whether the path leads to a part of the value, or to a field whose name had to be escaped or cut."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and index and int(index) < len(value):
            value = value[int(index)]
        else:
            return isinstance(value, dict)
    return True


def places(value: object) -> list[tuple[Any, Any]]:
    """Every container with every key in it."""
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]
    return []


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_does_not_fit_is_explained(data: st.DataObject) -> None:
    """The explanation translates msgspec's message: where it does not know one, a client reads the library's words, or
    is told nothing of use.
    """
    value = copy.deepcopy(FULL)
    container, key = data.draw(st.sampled_from(places(value)))
    match data.draw(st.sampled_from(["replace", "drop", "add"])):
        case "replace":
            container[key] = data.draw(ANYTHING)
        case "drop":
            del container[key]
        case "add" if isinstance(container, dict):
            container[data.draw(st.text(max_size=5))] = data.draw(ANYTHING)
    try:
        msgspec.convert(value, ChatRequest)
    except msgspec.ValidationError:
        with pytest.raises(ApiError) as caught:
            convert(value, ChatRequest, {})
        error = caught.value
        assert EXPLAINED.fullmatch(error.message), error.message
        assert error.param is None or exists(value, error.param) or error.code == "missing_required_parameter"
    else:
        assert convert(value, ChatRequest, {}) == msgspec.convert(value, ChatRequest)


@pytest.mark.parametrize("name", ["\x1b[31m\r\n", "a" * 10**5, "`$.stream`", "\u202e"])
def test_names_of_strangers_come_back_cut_and_escaped(name: str) -> None:
    """Row 44: an error is written into logs and terminals."""
    for value in (request(**{name: 1}), request({**user("hi"), name: 1}), request(metadata={name[:60]: 5})):
        with pytest.raises(ApiError) as caught:
            chat.parse(value, ["vlrun-tiny"], ServerLimits())
        error = caught.value
        assert len(error.message) < 900
        assert (error.message + str(error.param)).isprintable()
        assert (error.message + str(error.param)).isascii()
