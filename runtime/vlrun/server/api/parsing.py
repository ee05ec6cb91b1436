"""Parts of requests that all endpoints parse alike: model name, texts, images, functions, schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from vlrun.errors import OptionError
from vlrun.server.api import schemas, strict_json
from vlrun.server.api.validation import quoted
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.generation_request import EncodedImage, RequestMessage
from vlrun.server.images import from_data_url
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Detail
from vlrun.types.turn import Mode, Tool, ToolCall, ToolChoice

SYSTEM_SEPARATOR = "\n\n"


def check_model(model: str, names: Sequence[str]) -> None:
    """Raise ApiError (404) unless this model is served."""
    if model not in names:
        raise ApiError(404, f"the model {quoted(model)} is not served here", "model_not_found", "model")


@contextmanager
def option_errors(renamed: Mapping[str, str]) -> Iterator[None]:
    """Turn an OptionError of the block into an ApiError (400). ``renamed``: the request's fields by option name, where
    they differ.
    """
    try:
        yield
    except OptionError as error:
        option = error.message.partition(" ")[0]  # messages begin with the option's name
        raise bad_request(error.message, renamed.get(option, option)) from None


def merge_system(messages: Sequence[RequestMessage], params: Sequence[str]) -> tuple[RequestMessage, ...]:
    """Merge the system messages into one, which is all that the model's template supports.

    Raises ApiError (400) for one that comes later: the template would drop it silently. ``params``: their fields.
    """
    count = next((index for index, message in enumerate(messages) if message.role != "system"), len(messages))
    for message, param in zip(messages[count:], params[count:], strict=True):
        if message.role == "system":
            raise bad_request(f"{param}: system messages must come before all others", param)
    if count < 2:
        return tuple(messages)
    parts = [part for message in messages[:count] for part in (SYSTEM_SEPARATOR, *message.parts)]
    return (RequestMessage("system", tuple(parts[1:])), *messages[count:])


def parse_tool_choice(mode: Mode | None, name: str | None, parallel: bool | None, tools: Sequence[Tool]) -> ToolChoice:
    """``name``: the function that must be called. Raises ApiError (400) for one that is not among the tools."""
    names = [tool["function"]["name"] for tool in tools]  # type: ignore[index] # as `RequestParser.tool` makes them
    if name is not None and name not in names:
        raise bad_request(f"tool_choice names {quoted(name)}, which is not among the tools", "tool_choice")
    if mode == "required" and not tools:
        raise bad_request("tool_choice is required, but there are no tools", "tool_choice")
    return ToolChoice(mode or ("auto" if name is None else "required"), name, parallel is not False)


class RequestParser:
    """Parses one request: counts its characters and images, and remembers its tool calls.

    Methods raise ApiError (400); ``param`` is the path of the field.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.limits = limits
        self._characters = 0
        self._images = 0
        self._calls: set[str] = set()
        self._functions: set[str] = set()

    def text(self, text: str, param: str) -> str:
        """Text of a user, the model or a tool."""
        self._count(len(text), param)
        return text

    def image(self, url: str, detail: Detail | None, param: str) -> EncodedImage:
        """An image in a data URL."""
        self._images += 1
        if self._images > self.limits.max_images:
            raise bad_request(f"a request may have at most {self.limits.max_images} images", param, "too_many_images")
        return from_data_url(url, detail or "auto", param)

    def call(self, call_id: str, name: str, arguments: str, param: str) -> ToolCall:
        """A call that the model made; ``param`` is the path of the arguments."""
        self._calls.add(call_id)
        self._count(len(name) + len(arguments), param)
        try:
            value = strict_json.parse(arguments.encode(), self.limits)
        except (ApiError, UnicodeError):
            value = None
        if not isinstance(value, dict):
            raise bad_request(f"{param} must be the JSON text of an object", param)
        return ToolCall(name, arguments)

    def check_result(self, call_id: str, param: str) -> None:
        """Check that a tool result belongs to an earlier call."""
        if call_id not in self._calls:
            raise bad_request(f"{param} is not the id of an earlier call", param)

    def schema(self, schema: Mapping[str, Any], param: str) -> Mapping[str, Any]:
        """A JSON schema."""
        if len(json.dumps(schema, ensure_ascii=False).encode()) > self.limits.max_schema_bytes:
            raise bad_request(f"{param} is larger than {self.limits.max_schema_bytes} bytes", param)
        return schema

    def tool(self, function: schemas.Function, param: str) -> Tool:
        """A function that the model may call; ``param`` is the path of its object."""
        if function.name in self._functions:
            raise bad_request(f"{param}.name is taken by another function", f"{param}.name")
        self._functions.add(function.name)
        description: dict[str, Any] = {"name": self.text(function.name, f"{param}.name")}
        if function.description is not None:
            description["description"] = self.text(function.description, f"{param}.description")
        if function.parameters is not None:
            description["parameters"] = self.schema(function.parameters, f"{param}.parameters")
            self._count(len(json.dumps(function.parameters, ensure_ascii=False)), f"{param}.parameters")
        if function.strict:
            description["strict"] = True
        return {"type": "function", "function": description}

    def _count(self, characters: int, param: str) -> None:
        self._characters += characters
        if self._characters > self.limits.max_text:
            raise bad_request(f"the request has more than {self.limits.max_text} characters of text", param)
