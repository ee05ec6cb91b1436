"""Tool calls out of an answer, in Qwen's format: a JSON object between ``<tool_call>`` and ``</tool_call>``.

Knows text; calls nothing.
"""

from __future__ import annotations

import json
import re

from vlrun.text.template import ToolCall

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def find_tool_calls(text: str) -> tuple[ToolCall, ...]:
    """The calls of an answer in order. What is cut short, or is no object with a name and arguments, is none."""
    return tuple(call for found in _CALL.finditer(text) if (call := _parsed(found[1])))


def _parsed(text: str) -> ToolCall | None:
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", {})
    if not isinstance(arguments, dict):
        return None
    return ToolCall(call["name"], json.dumps(arguments, ensure_ascii=False))
