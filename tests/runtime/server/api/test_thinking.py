"""The fields by which clients turn the reasoning off, or limit it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.server.api.chat_requests import request
from vlrun.server.api import chat
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import ServerLimits

NAMES = ["vlrun-tiny"]


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
        ({"thinking": {"type": "adaptive", "display": "summarized"}}, None),
        ({"reasoning_effort": "disable"}, 0),
        ({"chat_template_kwargs": {"thinking": False, "add_generation_prompt": True}}, 0),
        ({"reasoning": {"effort": "none"}}, 0),
        ({"reasoning": {"enabled": False, "exclude": False}}, 0),
        ({"reasoning": {"max_tokens": 70, "summary": "auto"}}, 70),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "none"}, 0),
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
        ({"reasoning": {"exclude": True}}, "reasoning.exclude"),
        ({"thinking_token_budget": 2**40}, "thinking_token_budget"),
    ],
)
def test_other_values_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        budget(**fields)
    assert caught.value.param == param
