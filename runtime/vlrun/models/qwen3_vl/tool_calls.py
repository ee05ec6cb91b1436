"""Qwen's tool calls: ``<tool_call>``, a JSON object with ``name`` and ``arguments``, ``</tool_call>``."""

from __future__ import annotations

import msgspec

from vlrun.models.family import ToolCallFormat
from vlrun.types.turn import ToolCall


class _Call(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


def parse_call(text: str) -> ToolCall | None:
    """Parse the text between the control tokens. The arguments stay as written, so that no number is rounded."""
    try:
        call = msgspec.json.decode(text, type=_Call)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    arguments = bytes(call.arguments).decode()
    return ToolCall(call.name, arguments) if arguments.startswith("{") else None


TOOL_CALLS = ToolCallFormat(
    begin="<tool_call>",
    end="</tool_call>",
    before_name='\n{"name": "',
    before_arguments='", "arguments": ',
    after_arguments="}\n",
    separator="\n",
    parse=parse_call,
)
"""The format of the chat template."""
