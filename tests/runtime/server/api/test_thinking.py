"""The fields by which clients turn the reasoning off, or limit it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.published import CASES, needs_published
from tests.runtime.server.api.chat_requests import request
from vlrun.server.api import chat, responses
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import ServerLimits

NAMES = ["vlrun-tiny"]
CASE_NAMES = (
    'reasoning_effort="none"',
    'reasoning_effort="low"',
    'chat_template_kwargs={"enable_thinking": false}',
    "enable_thinking=false",
    'thinking={"type": "disabled"}',
    "empty content beside a tool call equals null",
    "responses: include, truncation, reasoning",
)


def budget(**fields: Any) -> int | None:
    return chat.parse(request(**fields), NAMES, ServerLimits()).options.thinking_tokens


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, 0),
        ({"reasoning_effort": "high"}, None),
        ({"enable_thinking": False}, 0),
        ({"enable_thinking": True}, None),
        ({"chat_template_kwargs": {"enable_thinking": False}}, 0),
        ({"chat_template_kwargs": {}}, None),
        ({"thinking": {"type": "disabled"}}, 0),
        ({"thinking": {"type": "enabled", "budget_tokens": 50}}, 50),
        ({"thinking": {"type": "enabled", "budget_tokens": 50}, "thinking_token_budget": 60}, 60),
        ({"thinking_token_budget": 60, "enable_thinking": False}, 0),
    ],
)
def test_every_clients_switch_is_understood(fields: dict[str, Any], expected: int | None) -> None:
    assert budget(**fields) == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"tools_in_user_message": True}}, "chat_template_kwargs.tools_in_user_message"),
        ({"thinking": {"type": "maybe"}}, "thinking.type"),
        ({"thinking_token_budget": 2**40}, "thinking_token_budget"),
    ],
)
def test_other_values_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        budget(**fields)
    assert caught.value.param == param


@needs_published
@pytest.mark.parametrize("name", CASE_NAMES)
def test_published_cases_are_accepted(name: str) -> None:
    """Requests of real clients, which were refused."""
    lines = (CASES / "requests" / "requests.jsonl").read_text("utf-8").splitlines()
    (case,) = (one for one in map(json.loads, lines) if one["name"] == name)
    if case["endpoint"] == "/v1/responses":
        parsed, _ = responses.parse(case["body"], NAMES, ServerLimits())
    else:
        parsed = chat.parse(case["body"], NAMES, ServerLimits())
    assert parsed.options.thinking_tokens in (0, None)
