"""The service conforms to its own OpenAPI document (schemathesis) and to OpenAI's published schemas."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.server.http_client import (
    QUESTION,
    chat_request,
    events,
    get,
    image,
    is_idle,
    new_image,
    post,
    send_request,
    shelf_request,
    wait_until,
)
from tests.runtime.server.openai_schema import check
from tests.runtime.server.running_server import KEY, Server, serving

HOOKS = Path(__file__).with_name("conformance_hooks.py")
OTHER_APIS = r"^/(api/(?!v1/)|v1/messages|v1/images|v1/tasks)"
"""Paths of Ollama's, Anthropic's and vlrun's own API."""
SCHEMATHESIS = "from schemathesis.cli import schemathesis; schemathesis()"


def fuzz(server: Server, folder: Path, *options: str) -> str:
    """Run schemathesis and return its output. Fails with the output if it found something."""
    arguments = ["run", f"{server.url}/openapi.json", "--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    arguments += ["--seed", "5", "--workers", "2", "--request-timeout", "60", "--suppress-health-check", "all"]
    arguments += ["--no-color", "--output-truncate", "false", "--continue-on-failure", *options]
    for _ in range(2):  # on a busy machine it is flaky ("Inconsistent results", warnings); real errors repeat
        done = subprocess.run(
            [sys.executable, "-c", SCHEMATHESIS, *arguments],
            cwd=folder,
            env=os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS)},
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        if "No issues found" in done.stdout:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_service_conforms_to_its_openapi_document(server: Server, tmp_path: Path) -> None:
    """Statuses, content types, headers and shapes of responses, rejection of invalid requests and unknown methods, over
    thousands of requests, always the same, without a 5xx. The other APIs would take as long: see the test below.
    """
    output = fuzz(server, tmp_path, "--max-examples", "4", "--exclude-path-regex", OTHER_APIS)
    assert "No issues found" in output
    assert "Operations:       12 selected / 26 total" in output
    wait_until(lambda: is_idle(server))
    assert post(server, shelf_request()).text == "6"


def test_documented_security_is_enforced(tmp_path: Path) -> None:
    """Without a key, or with a wrong one, each operation but one is refused (ignored_auth). All APIs are fuzzed."""
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    keys.chmod(0o600)
    with serving("--api-key-file", str(keys)) as keyed:
        headers = ("--header", f"Authorization: Bearer {KEY}")
        output = fuzz(keyed, tmp_path, "--phases", "examples,fuzzing", "--max-examples", "2", *headers)
        assert "No issues found" in output, output


COUNT = {
    "type": "object",
    "properties": {"bottles": {"type": "integer"}, "cans": {"type": "integer"}},
    "required": ["bottles", "cans"],
    "additionalProperties": False,
}
FUNCTION = {"name": "report_count", "description": "Report.", "parameters": COUNT}
TOOL = {"type": "function", "function": FUNCTION}
CALLING = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
STREAM_OPTIONS = {"include_usage": True, "include_progress": True}
CHATS: dict[str, dict[str, Any]] = {
    "plain": shelf_request(),
    "a new image": chat_request(new_image(), QUESTION),
    "cut short": shelf_request(max_tokens=1),
    "with logprobs": shelf_request(logprobs=True, top_logprobs=3),
    "several": shelf_request(n=3, temperature=1, seed=1),
    "JSON": shelf_request(response_format={"type": "json_schema", "json_schema": {"name": "count", "schema": COUNT}}),
    "a tool's call": shelf_request(**CALLING, max_tokens=200),
    "a tool that is not called": shelf_request(tools=[TOOL], tool_choice="none"),
    "two answers with calls and logprobs": shelf_request(**CALLING, max_tokens=200, n=2, logprobs=True, top_logprobs=1),
}


@pytest.mark.parametrize("name", CHATS)
def test_chat_completions_match_openais_schema(server: Server, name: str) -> None:
    """Typed clients reject missing or extra fields."""
    reply = post(server, CHATS[name])
    assert reply.status == 200
    check(reply.json, "CreateChatCompletionResponse")
    assert len(reply.json["choices"]) == CHATS[name].get("n", 1)


@pytest.mark.parametrize("name", CHATS)
def test_chat_chunks_match_openais_schema(server: Server, name: str) -> None:
    """Including the chunks with usage and progress."""
    request = CHATS[name] | {"stream": True, "stream_options": STREAM_OPTIONS}
    data = [line for line in events(send_request(server, request).getresponse()) if not line.startswith(":")]
    assert data[-1] == "[DONE]"
    chunks = [check(json.loads(line), "CreateChatCompletionStreamResponse") for line in data[:-1]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[-1]["usage"]["total_tokens"] > 60
    finished = [choice["index"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert sorted(finished) == list(range(CHATS[name].get("n", 1)))


def question(**more: Any) -> dict[str, Any]:
    """The shelf request for /v1/responses."""
    image_request = {"type": "input_image", "image_url": image()["image_url"]["url"], "detail": "auto"}
    content = [image_request, {"type": "input_text", "text": QUESTION}]
    return {"model": "vlrun-tiny", "input": [{"role": "user", "content": content}], "temperature": 0, **more}


RESPONSES: dict[str, dict[str, Any]] = {
    "plain": question(instructions="Answer with a number."),
    "a text alone": {"model": "vlrun-tiny", "input": "Hello", "max_output_tokens": 5},
    "cut short": question(max_output_tokens=1),
    "with logprobs": question(include=["message.output_text.logprobs"], top_logprobs=2),
    "JSON": question(text={"format": {"type": "json_schema", "name": "count", "schema": COUNT}}),
    "a tool's call": question(tools=[{"type": "function", **FUNCTION}], tool_choice="required", max_output_tokens=200),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_responses_match_openais_schema(server: Server, name: str) -> None:
    reply = post(server, RESPONSES[name], "/v1/responses")
    assert reply.status == 200, reply.body
    check(reply.json, "Response")


@pytest.mark.parametrize("name", RESPONSES)
def test_response_events_match_openais_schema(server: Server, name: str) -> None:
    response = send_request(server, RESPONSES[name] | {"stream": True}, "/v1/responses").getresponse()
    received = [json.loads(line) for line in events(response) if not line.startswith(":")]
    for event in received:
        check(event, "ResponseStreamEvent")
    assert [event["sequence_number"] for event in received] == list(range(len(received)))
    check(received[-1]["response"], "Response")
    assert received[-1]["type"] in ("response.completed", "response.incomplete")


def test_models_match_openais_schema(server: Server) -> None:
    check(get(server, "/v1/models").json, "ListModelsResponse")
    check(get(server, "/v1/models/vlrun-tiny").json, "Model")


def test_errors_match_openais_schema(server: Server) -> None:
    replies = [
        post(server, shelf_request(temperature=9)),
        post(server, b"{"),
        post(server, shelf_request(model="gpt-5")),
        post(server, shelf_request(), headers={"Content-Type": "text/plain"}),
        post(server, shelf_request(), headers={"Origin": "http://evil.example"}),
        get(server, "/v1/chat/completions"),
        get(server, "/nowhere"),
    ]
    assert [reply.status for reply in replies] == [400, 400, 404, 415, 403, 405, 404]
    for reply in replies:
        check(reply.json, "ErrorResponse")


@pytest.mark.fault(30)
def test_stream_errors_match_openais_schema() -> None:
    with serving("--deadline", "1") as short_deadline:
        wanted = {"type": "array", "items": {"type": "integer"}, "minItems": 1000}
        long = {"temperature": 2, "stream": True}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": wanted}}
        chat = chat_request("Numbers", response_format=form, max_tokens=3900, n=4, **long)
        last = list(events(send_request(short_deadline, chat).getresponse()))[-1]
        check(json.loads(last), "ErrorResponse")
        given = {"model": "vlrun-tiny", "input": "Numbers", "max_output_tokens": 3900, **long}
        text = {"format": {"type": "json_schema", "name": "x", "schema": wanted}}
        response = send_request(short_deadline, {**given, "text": text}, "/v1/responses").getresponse()
        failed = [json.loads(line) for line in events(response) if not line.startswith(":")]
        for event in failed:
            check(event, "ResponseStreamEvent")
        assert failed[-1]["type"] == "response.failed"
