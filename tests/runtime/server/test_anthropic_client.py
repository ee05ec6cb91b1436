"""Anthropic's official client, unchanged and in its defaults, and the request shape of Claude Code."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from pydantic import BaseModel

from tests.paths import EXAMPLES
from tests.runtime.server.http_client import QUESTION, get, post, send_request
from tests.runtime.server.running_server import KEY, Server
from vlrun.server.middleware.security import NO_KEY

pytestmark = pytest.mark.slow

MODEL = "vlrun-tiny"
COUNT_QUESTION = "Count the bottles and cans."


class Count(BaseModel):
    """What is on the shelf."""

    bottles: int
    cans: int


TOOL: Any = {"name": "report_count", "description": "Report.", "input_schema": Count.model_json_schema()}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Anthropic]:
    with Anthropic(base_url=server.url, api_key="not-needed", timeout=60, max_retries=0) as made:
        yield made


def picture() -> dict[str, Any]:
    data = base64.b64encode((EXAMPLES / "shelf.png").read_bytes()).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def shelf(question: str = QUESTION) -> Any:
    return {"role": "user", "content": [picture(), {"type": "text", "text": question}]}


def ask(client: Anthropic, *messages: Any, **more: Any) -> anthropic.types.Message:
    given = list(messages) or [shelf()]
    answer: Any = client.messages.create(model=MODEL, max_tokens=100, messages=given, **more)
    return answer


def test_a_message(client: Anthropic) -> None:
    answer = ask(client)
    (block,) = answer.content
    assert block.type == "text"
    assert block.text == "6"
    assert (answer.stop_reason, answer.stop_sequence, answer.model) == ("end_turn", None, MODEL)
    assert answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0) > 60
    again = ask(client)
    assert again.usage.cache_read_input_tokens
    assert again.usage.cache_read_input_tokens > 60


def test_a_stream(client: Anthropic) -> None:
    with client.messages.stream(model=MODEL, max_tokens=100, messages=[shelf()]) as stream:
        assert "".join(stream.text_stream) == "6"
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens >= 1
    assert final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0) > 60
    events: list[Any] = list(client.messages.create(model=MODEL, max_tokens=9, messages=[shelf()], stream=True))
    assert (events[0].type, events[-2].type, events[-1].type) == ("message_start", "message_delta", "message_stop")
    begun, ended = events[0].message.usage, events[-2].usage
    assert begun.input_tokens > 0
    assert (begun.input_tokens, begun.cache_read_input_tokens) == (ended.input_tokens, ended.cache_read_input_tokens)


def test_a_conversation_with_a_system_prompt(client: Anthropic) -> None:
    """The answer goes back as the client got it."""
    first = ask(client)
    messages = (shelf(), {"role": "assistant", "content": first.content}, {"role": "user", "content": "And cans?"})
    answer = ask(
        client, *messages, system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    )
    assert answer.content[0].type == "text"


def test_a_schema(client: Anthropic) -> None:
    question = shelf(f"{COUNT_QUESTION} Answer in JSON.")
    parsed = client.messages.parse(model=MODEL, max_tokens=100, messages=[question], output_format=Count)
    assert parsed.parsed_output
    assert parsed.parsed_output.bottles == 6


@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "report_count"}])
def test_tools(client: Anthropic, choice: Any) -> None:
    """The call and its result go back as clients send them, the result with an image."""
    question, chosen = shelf(COUNT_QUESTION), {**choice, "disable_parallel_tool_use": True}
    answer = ask(client, question, tools=[TOOL], tool_choice=chosen)
    (call,) = (block for block in answer.content if block.type == "tool_use")
    assert answer.stop_reason == "tool_use"
    assert (call.name, call.input) == ("report_count", {"bottles": 6, "cans": 1})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "noted"}, picture()]}
    messages = (question, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]})
    assert ask(client, *messages, tools=[TOOL], tool_choice={"type": "none"}).content[0].type == "text"


def test_a_streamed_call(client: Anthropic) -> None:
    given: Any = {"messages": [shelf(COUNT_QUESTION)], "tools": [TOOL], "tool_choice": {"type": "any"}}
    with client.messages.stream(model=MODEL, max_tokens=100, **given) as stream:
        final = stream.get_final_message()
    calls = [block for block in final.content if block.type == "tool_use"]
    assert calls[0].input == {"bottles": 6, "cans": 1}
    assert final.stop_reason == "tool_use"


def test_stop_sequences(client: Anthropic) -> None:
    description = shelf("Describe this image.")
    text = ask(client, description).content[0]
    assert text.type == "text"
    word = text.text.split()[2]
    answer = ask(client, description, stop_sequences=["never", word])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", word)
    cut: Any = client.messages.create(model=MODEL, max_tokens=3, messages=[description])
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 3)


def test_counting_tokens(client: Anthropic) -> None:
    """The number that the answer reports too."""
    usage = ask(client, tools=[TOOL]).usage
    counted = client.messages.count_tokens(model=MODEL, messages=[shelf()], tools=[TOOL])
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    without = client.messages.count_tokens(model=MODEL, messages=[shelf()])
    assert without.input_tokens < counted.input_tokens


def test_models(client: Anthropic) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).max_input_tokens == 4096
    with pytest.raises(anthropic.NotFoundError, match="is not served here") as missing:
        client.models.retrieve("claude-opus-5")
    assert missing.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": 'the model "claude-opus-5" is not served here'},
    }


def test_errors(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="is not served here") as missing:
        client.messages.create(model="claude-opus-5", max_tokens=9, messages=[shelf()])
    assert missing.value.type == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match=r"the prompt has \d+ tokens") as long:
        ask(client, {"role": "user", "content": "a " * 5000}, stream=True)
    assert long.value.type == "invalid_request_error"
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[1\].role is assistant"):
        ask(client, shelf(), {"role": "assistant", "content": "The answer is"})


def test_keys(strict_server: Server) -> None:
    """Anthropic's client sends `x-api-key`, or a bearer token."""
    accepted: list[dict[str, Any]] = [{"api_key": KEY}, {"auth_token": KEY}]
    for given in accepted:
        with Anthropic(base_url=strict_server.url, timeout=60, **given) as client:
            assert client.models.retrieve(MODEL).id == MODEL
    with Anthropic(base_url=strict_server.url, api_key="wrong", timeout=60) as client:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            ask(client)
        assert refused.value.type == "authentication_error"
        with pytest.raises(anthropic.AuthenticationError) as refused:
            client.models.list()
        assert refused.value.body == {
            "type": "error",
            "error": {"type": "authentication_error", "message": NO_KEY.message},
        }


def test_claude_codes_request(server: Server) -> None:
    """Its fields, headers and query; the prompt is shortened to the context of the embedded model."""
    ephemeral = {"cache_control": {"type": "ephemeral"}}
    request = {
        "model": MODEL,
        "max_tokens": 32000,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1"},
            {"type": "text", "text": "You are Claude Code.", **ephemeral},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "<system-reminder>As you answer, be brief.</system-reminder>"},
                    {"type": "text", "text": "Hello", **ephemeral},
                ],
            }
        ],
        "tools": [{**TOOL, **ephemeral, "eager_input_streaming": True}],
        "metadata": {"user_id": '{"device_id": "1"}'},
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        "stream": True,
    }
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219", "x-app": "cli"}
    reply = send_request(server, request, "/v1/messages?beta=true", headers).getresponse()
    assert reply.status == 200
    assert reply.read().rstrip().endswith(b'data: {"type":"message_stop"}')


def test_errors_have_anthropics_format_before_any_endpoint(server: Server) -> None:
    """Also those of the middleware and of unknown paths."""
    replies = [
        get(server, "/v1/messages/batches"),
        get(server, "/v1/files", {"anthropic-version": "2023-06-01"}),
        get(server, "/v1/messages"),
        post(server, b"{", "/v1/messages"),
        post(server, {}, "/v1/messages", {"Content-Type": "text/plain"}),
        post(server, {}, "/v1/messages", {"Origin": "http://evil.example"}),
    ]
    assert [reply.status for reply in replies] == [404, 404, 405, 400, 415, 403]
    assert all(reply.json["type"] == "error" and set(reply.json["error"]) == {"type", "message"} for reply in replies)


def test_an_error_in_a_stream_is_raised(strict_server: Server) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 1000}
    more = {"output_config": {"format": {"type": "json_schema", "schema": schema}}, "temperature": 2}
    messages: Any = [{"role": "user", "content": "Numbers"}]
    with (
        Anthropic(base_url=strict_server.url, api_key=KEY, timeout=60) as client,
        pytest.raises(anthropic.APIStatusError, match="deadline"),
    ):
        list(client.messages.create(model=MODEL, max_tokens=3900, messages=messages, stream=True, extra_body=more))
