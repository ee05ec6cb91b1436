"""Validation of tool descriptions and of the tool choice."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from vlrun.errors import OptionError
from vlrun.structured.schema_check import plain_schema
from vlrun.types.turn import MAX_TOOLS, Tool, ToolChoice

MAX_TOOLS_BYTES = 256 * 1024
"""All tools of a request, as JSON text."""

Parameters: TypeAlias = Mapping[str, object]
"""The JSON schema of a tool's arguments."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_TOOL_KEYS = frozenset({"type", "function"})
_FUNCTION_KEYS = frozenset({"name", "description", "parameters", "strict"})


def check_tools(tools: Sequence[Tool], choice: ToolChoice) -> dict[str, Parameters]:
    """Return the parameters of each tool by its name; ``{}`` for a tool without parameters.

    Raises:
        OptionError: A tool is invalid, the tools exceed a limit, or the choice matches none of them.
    """
    if len(tools) > MAX_TOOLS:
        raise OptionError(f"there are more than {MAX_TOOLS} tools")
    found: dict[str, Parameters] = {}
    bytes_left = MAX_TOOLS_BYTES - len("[]")
    for index, tool in enumerate(tools):
        name, parameters, size = _check_tool(tool, f"tools[{index}]")
        bytes_left -= size + (len(", ") if found else 0)
        if bytes_left < 0:
            raise OptionError(f"the tools are larger than {MAX_TOOLS_BYTES} bytes")
        if name in found:
            raise OptionError(f"two tools have the name '{name}'")
        found[name] = parameters
    if choice.mode == "required" and not found:
        raise OptionError("a tool call is required, but there are no tools")
    if choice.name is not None and choice.mode != "required":
        raise OptionError("a tool can be chosen by name only if a call is required")
    if choice.name is not None and choice.name not in found:
        raise OptionError("the required tool is not among the tools")
    return found


def _check_tool(tool: object, where: str) -> tuple[str, Parameters, int]:
    """Return a tool's name, a plain copy of its parameters, and its size as JSON."""
    if not isinstance(tool, Mapping) or not tool.keys() <= _TOOL_KEYS or tool.get("type") != "function":
        raise OptionError(f'{where} must look like {{"type": "function", "function": {{"name": ...}}}}')
    function = tool.get("function")
    if not isinstance(function, Mapping) or not function.keys() <= _FUNCTION_KEYS:
        raise OptionError(f"{where}.function may have only name, description, parameters and strict")
    name, parameters = function.get("name"), function.get("parameters", {})
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise OptionError(f"{where}.function.name must consist of 1 to 64 of a-z, A-Z, 0-9, _ and -")
    if not isinstance(function.get("description", ""), str) or not isinstance(function.get("strict"), bool | None):
        raise OptionError(f"{where}.function.description must be a string, and strict true or false")
    if not isinstance(parameters, Mapping):
        raise OptionError(f"{where}.function.parameters must be a JSON schema")
    try:
        plain = cast("dict[str, object]", plain_schema(parameters))
    except OptionError as error:
        raise parameters_error(name, error) from error
    given = {**function, "parameters": plain} if "parameters" in function else {**function}
    try:
        size = len(json.dumps({"type": "function", "function": given}, ensure_ascii=False).encode())
    except UnicodeError as error:
        raise OptionError(f"{where} contains characters that are not valid Unicode") from error
    return name, plain, size


def strict_tools(tools: Sequence[Tool]) -> frozenset[str]:
    """Return the names of checked tools that are ``strict``."""
    functions = [cast("Mapping[str, object]", tool["function"]) for tool in tools]
    return frozenset(str(function["name"]) for function in functions if function.get("strict"))


def parameters_error(name: str, error: OptionError) -> OptionError:
    """Convert the error of a schema to one of a tool's parameters."""
    return OptionError(f"the parameters of the tool '{name}' are not supported: {error.message}")
