"""What reading a request is made of, whichever endpoint it came through: types, the model's name, texts, images,
functions, schemas, options, each within the limits.

Knows the words of errors; knows no endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from vlrun.errors import OptionError
from vlrun.server.api import strict_json
from vlrun.server.api.common_request import Function, ToolMode
from vlrun.server.api.unsupported import Unsupported
from vlrun.server.api.validation_errors import explain, quoted, unsupported
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.generation_request import EncodedImage, RequestMessage
from vlrun.server.images import from_data_url
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Detail
from vlrun.types.turn import Tool, ToolCall, ToolChoice

T = TypeVar("T")

ANY_OBJECT: Mapping[str, object] = {"type": "object"}
"""The schema of ``json_object``."""
SEAM = "\n\n"
"""Between two system messages, which the model's template knows only one of."""


def read_as(value: object, kind: type[T], known: Unsupported) -> T:
    """A request as its type. ``known``: fields that are refused as unsupported. Raises ApiError (400)."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name in known and member is not None and member != known[name]:
                raise unsupported(name)
        value = {name: member for name, member in value.items() if name not in known}
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise explain(value, kind) from None


def check_model(model: str, names: Sequence[str]) -> None:
    """Raise ApiError (404) unless this model is served."""
    if model not in names:
        raise ApiError(404, f"the model {quoted(model)} is not served here", "model_not_found", "model")


@contextmanager
def options_within(renamed: Mapping[str, str]) -> Iterator[None]:
    """Options are made in this block: what is wrong with one is told as ApiError (400). ``renamed``: fields of the
    request by the names that options have for them, where these differ.
    """
    try:
        yield
    except OptionError as error:
        option = error.message.partition(" ")[0]  # messages begin with the option's name
        raise bad_request(error.message, renamed.get(option, option)) from None


def system_first(turns: Sequence[RequestMessage], params: Sequence[str]) -> tuple[RequestMessage, ...]:
    """The turns with all system messages as one: the model's template knows one, as the first. ``params``: the fields
    that they came in.

    Raises ApiError (400) for one that comes later: the template would leave it out without a word.
    """
    count = next((index for index, turn in enumerate(turns) if turn.role != "system"), len(turns))
    for turn, param in zip(turns[count:], params[count:], strict=True):
        if turn.role == "system":
            raise bad_request(f"{param} stands behind other messages: system messages must come first", param)
    if count < 2:
        return tuple(turns)
    parts = [part for turn in turns[:count] for part in (SEAM, *turn.parts)]
    return (RequestMessage("system", tuple(parts[1:])), *turns[count:])


def object_text(text: str, param: str, limits: ServerLimits) -> str:
    """The text itself, if it is the JSON of an object. Raises ApiError (400)."""
    try:
        value = strict_json.parse(text.encode(), limits)
    except (ApiError, UnicodeError):
        value = None
    if not isinstance(value, dict):
        raise bad_request(f"{param} must be the JSON text of an object", param)
    return text


def check_schema(schema: Mapping[str, Any], param: str, limits: ServerLimits) -> int:
    """Its characters as JSON. Raises ApiError (400) for a schema of too many bytes."""
    text = json.dumps(schema, ensure_ascii=False)
    if len(text.encode()) > limits.max_schema_bytes:
        raise bad_request(f"{param} is larger than {limits.max_schema_bytes} bytes", param)
    return len(text)


def tool_choice(mode: ToolMode | None, name: str | None, parallel: bool | None, tools: Sequence[Tool]) -> ToolChoice:
    """Whether tools are called. ``name``: the one that must be. Raises ApiError (400) for one that is not there."""
    names = [tool["function"]["name"] for tool in tools]  # type: ignore[index] # as `Reader.tool` makes them
    if name is not None and name not in names:
        raise bad_request(f"tool_choice names {quoted(name)}, which is not among the tools", "tool_choice")
    if mode == "required" and not tools:
        raise bad_request("tool_choice is required, but there are no tools", "tool_choice")
    wanted = mode or ("auto" if name is None else "required")
    return ToolChoice(wanted, name, parallel is not False)


class Reader:
    """Reads one request: counts its characters and images, and remembers the calls that it tells of.

    Methods raise ApiError (400); ``param`` is the field that is read, as a path.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._characters = 0
        self._images = 0
        self._calls: set[str] = set()
        self._functions: set[str] = set()

    def text(self, text: str, param: str) -> str:
        """A text of a user, the model or a tool."""
        self._count(len(text), param)
        return text

    def image(self, url: str, detail: Detail | None, param: str) -> EncodedImage:
        """An image as a data URL."""
        self._images += 1
        if self._images > self._limits.max_images:
            raise bad_request(
                f"at most {self._limits.max_images} images are possible in one request", param, "too_many_images"
            )
        return from_data_url(url, detail or "auto", param)

    def call(self, call_id: str, name: str, arguments: str, param: str) -> ToolCall:
        """A call that the model made; ``param`` is that of the arguments."""
        self._calls.add(call_id)
        self._count(len(name), param)
        return ToolCall(name, object_text(self.text(arguments, param), param, self._limits))

    def result(self, call_id: str, param: str) -> None:
        """The id of the call that a tool answers to."""
        if call_id not in self._calls:
            raise bad_request(f"{param} is the id of no call before it", param)

    def tool(self, function: Function, param: str) -> Tool:
        """A function that the model may call; ``param`` is where its fields are."""
        if function.name in self._functions:
            raise bad_request(f"{param}.name is taken: another function has it", f"{param}.name")
        self._functions.add(function.name)
        told: dict[str, Any] = {"name": function.name}
        self._count(len(function.name), f"{param}.name")
        if function.description is not None:
            told["description"] = self.text(function.description, f"{param}.description")
        if function.parameters is not None:
            place = f"{param}.parameters"
            self._count(check_schema(function.parameters, place, self._limits), place)
            told["parameters"] = function.parameters
        return {"type": "function", "function": told}

    def _count(self, characters: int, param: str) -> None:
        self._characters += characters
        if self._characters > self._limits.max_text:
            raise bad_request(f"the request has more than {self._limits.max_text} characters of text", param)


def with_call(turns: list[RequestMessage], call: ToolCall) -> None:
    """Add a call to the assistant's turn: the last one, or a new one behind it."""
    if turns and turns[-1].role == "assistant":
        turns[-1] = replace(turns[-1], tool_calls=(*turns[-1].tool_calls, call))
    else:
        turns.append(RequestMessage("assistant", (), (call,)))
