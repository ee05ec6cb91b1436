"""Tools that a model may call, and its calls out of an answer, in Qwen's format: a JSON object between ``<tool_call>``
and ``</tool_call>``.

Knows text and what a tool looks like; calls nothing, and knows no tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, cast

import msgspec

from vlrun.errors import OptionError
from vlrun.structured.schema_check import plain_schema
from vlrun.types.turn import Tool, ToolCall, ToolChoice

BEGIN, END = "<tool_call>", "</tool_call>"

MAX_TOOLS = 128
MAX_TOOLS_BYTES = 256 * 1024
"""All tools as JSON text."""

Parameters: TypeAlias = Mapping[str, object]
"""A JSON schema of a call's arguments."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MEMBERS = frozenset({"type", "function"})
_OF_FUNCTIONS = frozenset({"name", "description", "parameters", "strict"})
_OUTSIDE_STRINGS = re.compile(f'"|{END}')
_INSIDE_STRINGS = re.compile(r'"|\\.', re.DOTALL)


def described(tools: Sequence[Tool], choice: ToolChoice) -> dict[str, Parameters]:
    """What each tool's arguments must look like, by its name: ``{}`` if it does not say.

    Raises OptionError for tools that are none, too many or too large, and for a choice that none of them fits.
    """
    if len(tools) > MAX_TOOLS:
        raise OptionError(f"there are more than {MAX_TOOLS} tools")
    found: dict[str, Parameters] = {}
    room = MAX_TOOLS_BYTES - len("[]")
    for index, tool in enumerate(tools):
        name, parameters, size = _described(tool, f"tools[{index}]")
        room -= size + (len(", ") if found else 0)
        if room < 0:
            raise OptionError(f"the tools are larger than {MAX_TOOLS_BYTES} bytes")
        if name in found:
            raise OptionError(f"two tools are called '{name}'")
        found[name] = parameters
    if choice.mode == "required" and not found:
        raise OptionError("a tool must be called, but there is none")
    if choice.name is not None and choice.mode != "required":
        raise OptionError("a tool can be chosen by its name only if one must be called")
    if choice.name is not None and choice.name not in found:
        raise OptionError("the tool that must be called is not among the tools")
    return found


def _described(tool: object, where: str) -> tuple[str, Parameters, int]:
    """A tool's name, its parameters without anything but dict, list and plain values, and its size as JSON text."""
    if not isinstance(tool, Mapping) or not tool.keys() <= _MEMBERS or tool.get("type") != "function":
        raise OptionError(f'{where} is not like {{"type": "function", "function": {{"name": ...}}}}')
    function = tool.get("function")
    if not isinstance(function, Mapping) or not function.keys() <= _OF_FUNCTIONS:
        raise OptionError(f"{where}.function has something else than name, description, parameters and strict")
    name, parameters = function.get("name"), function.get("parameters", {})
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise OptionError(f"{where}.function.name must have 1 to 64 letters of a-z, A-Z, 0-9, _ and -")
    if not isinstance(function.get("description", ""), str) or not isinstance(function.get("strict"), bool | None):
        raise OptionError(f"{where}.function.description must be a text, and strict true or false")
    if not isinstance(parameters, Mapping):
        raise OptionError(f"{where}.function.parameters must be a JSON schema")
    plain = _plain(name, parameters)
    given = {**function, "parameters": plain} if "parameters" in function else {**function}
    try:
        size = len(json.dumps({"type": "function", "function": given}, ensure_ascii=False).encode())
    except UnicodeError as error:
        raise OptionError(f"{where} holds characters that are no valid Unicode") from error
    return name, plain, size


def _plain(name: str, parameters: Parameters) -> dict[str, object]:
    """A copy made of what JSON is made of. Raises OptionError for what is no JSON, and beyond a schema's limits."""
    try:
        return cast("dict[str, object]", plain_schema(parameters))
    except OptionError as error:
        raise in_parameters(name, error) from error


def in_parameters(name: str, error: OptionError) -> OptionError:
    """What is wrong with a schema, said of a tool's parameters."""
    return OptionError(f"the parameters of the tool '{name}' cannot be kept: {error.message}")


class ToolCallSplitter:
    """Text and calls of one answer while it comes. White space around calls is left out.

    What is no call although it stands between the marks, or is cut short, comes out as text, the marks included.
    """

    def __init__(self) -> None:
        self._held = ""
        self._calling = False
        self._called = False  # nothing but white space since the last call
        self._space = ""  # before a call, in case it is none
        self._read = 0  # of what is held, a call's beginning: where the search for its end goes on
        self._quoted = False  # whether that place is inside a string, where an end's letters are no end

    def push(self, text: str) -> list[str | ToolCall]:
        """What is complete by now. Text is held back only while a call may begin in it."""
        self._held += text
        return list(self._complete())

    def flush(self) -> list[str | ToolCall]:
        """What was held back, at the end of the answer."""
        rest = self._space + self._held if self._calling else self._held
        self._held, self._calling = "", False
        return [rest] if rest else []

    def _complete(self) -> Iterator[str | ToolCall]:
        while True:
            if not self._calling:
                yield from self._text()
            if not self._calling or (end := self._end()) is None:
                return
            whole, self._held = self._held[:end], self._held[end:]
            self._calling, self._read = False, 0
            call = _parsed(whole[len(BEGIN) : -len(END)])
            self._called = call is not None
            yield call or self._space + whole

    def _text(self) -> Iterator[str]:
        """Text up to the next call, or as far as it cannot belong to one."""
        if self._called:
            self._held = self._held.lstrip()
        place = self._held.find(BEGIN)
        self._calling = place >= 0
        shown = self._held[: place if self._calling else len(self._held) - _beginning(self._held)].rstrip()
        if self._calling:
            self._space, self._read = self._held[len(shown) : place], len(BEGIN)
        self._held = self._held[place if self._calling else len(shown) :]
        if shown:
            self._called = False
            yield shown

    def _end(self) -> int | None:
        """Where the call ends that is held, if that is known. Each letter is looked at once, whatever the pieces."""
        while found := (_INSIDE_STRINGS if self._quoted else _OUTSIDE_STRINGS).search(self._held, self._read):
            self._read = found.end()
            if found[0] == END:
                return self._read
            self._quoted ^= found[0] == '"'
        # A piece may end in the middle of an escape or of the end.
        left = self._held.endswith("\\") if self._quoted else len(END) - 1
        self._read = max(self._read, len(self._held) - left)
        return None


def find_tool_calls(text: str) -> tuple[ToolCall, ...]:
    """The calls of an answer in order. What is cut short, or is no object with a name and arguments, is none."""
    return tuple(piece for piece in ToolCallSplitter().push(text) if isinstance(piece, ToolCall))


def _beginning(text: str) -> int:
    """Length of the longest end of a text that a call may begin with."""
    return max(length for length in range(len(BEGIN)) if text.endswith(BEGIN[:length]))


class _Call(msgspec.Struct):
    """What stands between the marks."""

    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


def _parsed(text: str) -> ToolCall | None:
    try:
        call = msgspec.json.decode(text, type=_Call)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    arguments = bytes(call.arguments).decode()
    return ToolCall(call.name, arguments) if arguments.startswith("{") else None
