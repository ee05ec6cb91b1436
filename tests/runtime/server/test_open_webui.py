"""The requests that Open WebUI sends in its defaults: chats, pictures, tools, and its own questions about a chat."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.paths import EXAMPLES
from tests.runtime.server.http_client import QUESTION, Reply, data_url, get, post
from tests.runtime.server.running_server import Server

pytestmark = pytest.mark.slow

HEADERS = {"Authorization": "Bearer ", "X-OpenWebUI-User-Name": "Ada", "X-OpenWebUI-User-Role": "admin"}
"""With an empty key, and what it adds when it forwards its users."""

HISTORY = """### Task:
Suggest 3-5 relevant follow-up questions that the user might ask next in this conversation as a **user**.
### Guidelines:
- Use the chat's primary language; default to English if multilingual.
### Output:
JSON format: { "follow_ups": ["Question 1?", "Question 2?"] }
### Chat History:
<chat_history>
USER: How many bottles are there?
ASSISTANT: 6
</chat_history>"""


def text_and_picture(text: str) -> dict[str, Any]:
    """A message as Open WebUI sends it: the text stands before the picture."""
    url = {"url": data_url(EXAMPLES.joinpath("shelf.png").read_bytes())}
    return {"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": url}]}


def tool(name: str, description: str, **parameters: dict[str, Any]) -> dict[str, Any]:
    """A tool as Open WebUI describes its own functions: defaults, and neither ``strict`` nor closed objects."""
    required = [parameter for parameter, schema in parameters.items() if "default" not in schema]
    schema = {"type": "object", "properties": parameters, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


DAYS = {"type": "integer", "default": 0, "description": "Number of days to subtract (default: 0)"}
TEXT = {"type": "string", "description": "What to look for"}
OPTIONAL = {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None, "description": "The earliest time"}
IDS = {"type": "array", "items": {"type": "string"}, "description": "The knowledge bases"}

TOOLS = [
    tool("get_current_timestamp", "Get the current Unix timestamp in seconds."),
    tool("calculate_timestamp", "Get a Unix timestamp in the past.", days_ago=DAYS),
    tool("search_chats", "Search the earlier chats of the user.", query=TEXT, start_timestamp=OPTIONAL),
    tool("query_knowledge_bases", "Search documents by meaning.", query=TEXT, knowledge_ids=IDS),
]


def stream(server: Server, messages: list[dict[str, Any]], **more: Any) -> tuple[str, dict[str, Any]]:
    """Send a chat in the default form. Returns the text, and the last choice with ``usage``."""
    body = {"stream": True, "model": "vlrun-tiny", "messages": messages, **more}
    reply = post(server, body, headers=HEADERS)
    assert reply.status == 200, reply.body
    lines = [line.removeprefix(b"data: ") for line in reply.body.splitlines() if line.startswith(b"data: ")]
    assert lines[-1] == b"[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return text, {**choices[-1], "usage": chunks[-1].get("usage")}


def ask(server: Server, body: dict[str, Any]) -> Reply:
    return post(server, {"model": "vlrun-tiny", "stream": False, **body}, headers=HEADERS)


def test_the_model_is_listed(server: Server) -> None:
    assert [model["id"] for model in get(server, "/v1/models", HEADERS).json["data"]] == ["vlrun-tiny"]


def test_a_chat_goes_on(server: Server) -> None:
    hello = {"role": "user", "content": "Who are you?"}
    text, last = stream(server, [hello], stream_options={"include_usage": True})
    assert text == "I am the tiny demo model of vlrun. Show me a picture."
    assert last["finish_reason"] == "stop"
    assert last["usage"]["total_tokens"] > 0
    again, _ = stream(server, [hello, {"role": "assistant", "content": text}, hello])
    assert again == text


@pytest.mark.parametrize("system", [None, "You are a helpful assistant."])
def test_a_picture_is_understood(server: Server, system: str | None) -> None:
    before = [{"role": "system", "content": system}] if system else []
    assert stream(server, [*before, text_and_picture(QUESTION)])[0] == "6"


def test_its_tools_do_no_harm(server: Server) -> None:
    _, last = stream(server, [text_and_picture(QUESTION)], tools=TOOLS)
    assert last["finish_reason"] in ("stop", "tool_calls")


def test_more_tools_than_fit_into_the_context_are_refused_with_the_numbers(server: Server) -> None:
    """Its default of some thirty tools fits into the context of the 2B model, not into that of the embedded one."""
    many = [tool(f"tool_{number}", "Search the notes of the user. " * 20, query=TEXT) for number in range(40)]
    reply = ask(server, {"messages": [text_and_picture(QUESTION)], "tools": many})
    assert (reply.status, reply.json["error"]["code"]) == (400, "context_length_exceeded")
    assert "the context is 4096" in reply.json["error"]["message"]


def test_the_result_of_a_tool_is_read(server: Server) -> None:
    """The call of a stream comes back with its index and with empty text."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "search_chats", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "[]"},
    ]
    assert stream(server, messages, tools=TOOLS)[1]["finish_reason"] in ("stop", "tool_calls")


def test_its_questions_about_a_chat_are_answered(server: Server) -> None:
    """Titles, tags and follow-up questions."""
    reply = ask(server, {"messages": [{"role": "user", "content": HISTORY}], "max_completion_tokens": 1000})
    assert reply.status == 200, reply.body
    assert reply.json["choices"][0]["finish_reason"] in ("stop", "length")


def test_a_chat_as_with_ollama(server: Server) -> None:
    """A connection of the kind Ollama, which Open WebUI looks for by itself."""
    assert get(server, "/api/version", HEADERS).json["version"]
    (listed,) = get(server, "/api/tags", HEADERS).json["models"]
    assert get(server, "/api/ps", HEADERS).json["models"]
    picture = data_url(EXAMPLES.joinpath("shelf.png").read_bytes()).partition(",")[2]
    messages = [{"role": "user", "content": QUESTION, "images": [picture]}]
    body = {"model": listed["model"], "messages": messages, "options": {}, "stream": True}
    reply = post(server, body, "/api/chat", HEADERS)
    lines = [json.loads(line) for line in reply.body.splitlines()]
    assert "".join(line["message"]["content"] for line in lines) == "6"
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
