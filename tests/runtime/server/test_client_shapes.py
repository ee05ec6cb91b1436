"""Requests of programs that need no client library, replayed against a real service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.runtime.server.client_shapes import CHAT, SHAPES, chat, webui_tools
from tests.runtime.server.http_client import events, post, send_request
from tests.runtime.server.openai_schema import check
from tests.runtime.server.running_server import Server

pytestmark = pytest.mark.slow
COUNTED = {"Frigate: an event", "Frigate 0.15: the question is no object", "docling: a picture"}
"""Shapes with the image before the question, which the embedded model counts right."""


def answer(server: Server, name: str) -> dict[str, Any]:
    """The answer to a shape, as its program puts it together from a stream; checked against OpenAI's schemas."""
    path, body = SHAPES[name]
    if not body.get("stream"):
        reply = post(server, body, path)
        assert reply.status == 200, reply.body
        return check(reply.json, "CreateChatCompletionResponse" if path == CHAT else "Response")
    data = [line for line in events(send_request(server, body, path).getresponse()) if not line.startswith(":")]
    if path != CHAT:
        return check(json.loads(data[-1])["response"], "Response")
    assert data.pop() == "[DONE]"
    chunks = [check(json.loads(line), "CreateChatCompletionStreamResponse") for line in data]
    texts = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    return {"choices": [{"message": {"content": "".join(texts)}, "finish_reason": reasons[-1]}]}


def text_of(answered: dict[str, Any]) -> str:
    """What the program shows or parses: the text, or the arguments of the first call."""
    if "choices" in answered:
        message = answered["choices"][0]["message"]
        called = message.get("tool_calls") or []
        return str(called[0]["function"]["arguments"] if called else message["content"])
    item = answered["output"][0]
    return str(item["content"][0]["text"] if item["type"] == "message" else item["arguments"])


@pytest.mark.parametrize("name", SHAPES)
def test_the_request_of_a_program_is_answered(server: Server, name: str) -> None:
    """Guards against refusals of what these programs send by default."""
    body = SHAPES[name][1]
    text = text_of(answer(server, name))
    if name in COUNTED:
        assert text == "6"
    if "schema" in str(body.get("response_format") or body.get("text", {}).get("format")):
        assert set(json.loads(text)) in ({"labels"}, {"tags"})
    if body.get("tool_choice") == "required":
        assert set(json.loads(text)) >= {"title", "tags", "dates"}


def test_the_default_tools_of_open_webui_fit_or_the_error_says_why(server: Server) -> None:
    """30 KB of tools are more than the embedded model's context; the numbers tell the user."""
    tools = webui_tools()
    assert 28_000 < len(json.dumps(tools)) < 36_000
    body = chat({"role": "user", "content": "Hello"}, tools=tools)
    counted = post(server, {"messages": body["messages"], "tools": tools}, "/v1/tokenize").json
    reply = post(server, body)
    if counted["remaining"]:
        assert reply.status == 200
    else:
        error = reply.json["error"]
        assert (reply.status, error["code"]) == (400, "context_length_exceeded")
        assert str(counted["count"]) in error["message"]
        assert str(counted["context"]) in error["message"]
