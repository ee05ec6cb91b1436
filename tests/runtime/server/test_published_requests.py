"""The published requests of real clients, against a real service."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.published import CASES, needs_published
from tests.runtime.server.http_client import Reply, post
from tests.runtime.server.running_server import Server

pytestmark = [pytest.mark.slow, needs_published]
FILE = CASES / "requests" / "requests.jsonl"
REQUESTS: dict[str, dict[str, Any]] = (
    {case["name"]: case for case in map(json.loads, FILE.read_text("utf-8").splitlines())} if FILE.exists() else {}
)
EXPECTED = re.compile(
    "200|200, the same answer as without it|400 that names the field"
    "|200; the tool is unconstrained or its unknown keyword ignored"
    "|the prompt equals transformers' rendering of the same messages"
)
NOTHING: tuple[object, ...] = ("", None, [])
PLAIN = {"model": "vlrun-tiny", "messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0}


def changed(body: dict[str, Any]) -> set[str]:
    """The fields that a request has and the plain one has not."""
    return body.keys() - PLAIN.keys()


def test_all_expectations_are_known() -> None:
    assert len(REQUESTS) >= 27
    assert all(EXPECTED.fullmatch(case["expect"]) for case in REQUESTS.values())


@pytest.mark.parametrize("name", REQUESTS)
def test_a_published_request_has_the_right_result(server: Server, name: str) -> None:
    case = REQUESTS[name]
    reply: Reply = post(server, case["body"], case["endpoint"])
    if case["expect"].startswith("400"):
        (field,) = changed(case["body"])
        error = reply.json["error"]
        assert (reply.status, error["param"]) == (400, field)
        assert field in error["message"]
        return
    assert reply.status == 200, reply.body
    if "same answer" in case["expect"]:
        assert len(changed(case["body"])) == 1
        assert reply.text == post(server, PLAIN).text


def test_empty_content_beside_a_tool_call_is_null(server: Server) -> None:
    """That the prompt is transformers' is tested in tests/runtime/prompt/test_reference_prompts.py."""
    body = REQUESTS["empty content beside a tool call equals null"]["body"]
    asked, called, *rest = body["messages"]
    counts = {
        post(
            server, {"model": "vlrun-tiny", "messages": [asked, {**called, "content": content}, *rest]}, "/v1/tokenize"
        ).body
        for content in NOTHING
    }
    assert len(counts) == 1
