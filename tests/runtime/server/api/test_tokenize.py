"""Parsing of requests to /v1/tokenize, and the error for each invalid one."""

from __future__ import annotations

import pytest

from tests.runtime.server.api.chat_requests import TOOL, user
from vlrun.server.api import tokenize
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import GenerationRequest, RequestMessage
from vlrun.server.limits import ServerLimits

NAMES = ("vlrun-tiny", "other")


def test_tokenize_takes_a_conversation_or_a_text() -> None:
    """Messages are parsed as in a chat, so that the counts agree."""
    limits = ServerLimits()
    counted = tokenize.parse({"messages": [user("hi")], "tools": [TOOL]}, NAMES, limits)
    assert counted == GenerationRequest(messages=(RequestMessage("user", ("hi",)),), tools=(TOOL,))
    assert tokenize.parse({"prompt": "hi", "model": "other"}, NAMES, limits) == "hi"


@pytest.mark.parametrize(
    ("value", "param", "status"),
    [
        ({}, "messages", 400),
        ({"prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}, "prompt", 400),
        ({"prompt": "hi", "model": "x"}, "model", 404),
        ({"prompt": "hi", "chat_template": "x"}, "chat_template", 400),
        ({"prompt": "x" * 101}, "prompt", 400),
    ],
)
def test_invalid_requests_are_refused_with_their_field(value: object, param: str, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        tokenize.parse(value, NAMES, ServerLimits(max_text=100))
    assert (caught.value.param, caught.value.status) == (param, status)
