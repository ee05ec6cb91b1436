"""Ollama's official client, unchanged and in its defaults, and request shapes of programs that use it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import ollama
import pytest
from pydantic import BaseModel

from tests.paths import EXAMPLES
from tests.runtime.server.http_client import QUESTION, get, post, send_request
from tests.runtime.server.running_server import KEY, Server

pytestmark = pytest.mark.slow

MODEL = "vlrun-tiny"
SHELF = EXAMPLES / "shelf.png"
GREEDY = {"temperature": 0}
COUNT_QUESTION = "Count the bottles and cans."


class Count(BaseModel):
    """What is on the shelf."""

    bottles: int
    cans: int


def report_count(bottles: int, cans: int) -> str:
    """Report.

    Args:
        bottles: The bottles.
        cans: The cans.
    """
    return f"{bottles} {cans}"


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url, timeout=60) as made:
        yield made


def shelf(question: str = QUESTION) -> dict[str, Any]:
    return {"role": "user", "content": question, "images": [str(SHELF)]}


@pytest.mark.parametrize("model", [MODEL, f"{MODEL}:latest"])
def test_chat(client: ollama.Client, model: str) -> None:
    answer = client.chat(model, messages=[shelf()], options=GREEDY)
    assert answer.message.content == "6"
    assert (answer.model, answer.done, answer.done_reason) == (model, True, "stop")
    assert answer.prompt_eval_count
    assert answer.prompt_eval_count > 60
    assert answer.eval_duration
    assert answer.created_at


def test_chat_stream(client: ollama.Client) -> None:
    lines = list(client.chat(MODEL, messages=[shelf()], options=GREEDY, stream=True))
    assert "".join(line.message.content or "" for line in lines) == "6"
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1].done_reason == "stop"


def test_a_conversation(client: ollama.Client) -> None:
    """The answer goes back as the client got it."""
    first = client.chat(MODEL, messages=[shelf()], options=GREEDY)
    again: list[Any] = [shelf(), first.message, {"role": "user", "content": "How many cans are there?"}]
    assert (client.chat(MODEL, messages=again, options=GREEDY).message.content or "").isdigit()


def test_generate(client: ollama.Client) -> None:
    given: dict[str, Any] = {"prompt": QUESTION, "images": [SHELF.read_bytes()], "options": GREEDY}
    assert client.generate(MODEL, **given).response == "6"
    lines = list(client.generate(MODEL, stream=True, **given))
    assert "".join(line.response or "" for line in lines) == "6"
    assert lines[-1].eval_count


def test_a_schema(client: ollama.Client) -> None:
    question = shelf(f"{COUNT_QUESTION} Answer in JSON.")
    answer = client.chat(MODEL, messages=[question], format=Count.model_json_schema(), options=GREEDY)
    assert Count.model_validate_json(answer.message.content or "") == Count(bottles=6, cans=1)
    anything = client.chat(MODEL, messages=[question], format="json", options={**GREEDY, "num_predict": 200})
    assert anything.done_reason == "length" or isinstance(json.loads(anything.message.content or ""), dict)


@pytest.mark.parametrize("stream", [False, True])
def test_tools(client: ollama.Client, stream: bool) -> None:
    """A Python function is a tool; its result goes back with its name."""
    question = shelf(COUNT_QUESTION)
    given: dict[str, Any] = {"options": GREEDY, "stream": stream}
    got: Any = client.chat(MODEL, messages=[question], tools=[report_count], **given)
    answers = list(got) if stream else [got]
    ((call, message),) = [(call, line.message) for line in answers for call in line.message.tool_calls or ()]
    assert call.function.name == "report_count"
    assert call.function.arguments == {"bottles": 6, "cans": 1}
    result = {"role": "tool", "content": report_count(**call.function.arguments), "tool_name": "report_count"}
    after = client.chat(MODEL, messages=[question, message, result], tools=[report_count], options=GREEDY)
    assert after.done


def test_log_probabilities(client: ollama.Client) -> None:
    answer = client.chat(MODEL, messages=[shelf()], options=GREEDY, logprobs=True, top_logprobs=2)
    assert answer.logprobs
    assert answer.logprobs[0].token == "6"
    assert len(answer.logprobs[0].top_logprobs or ()) == 2


def test_options_end_an_answer(client: ollama.Client) -> None:
    cut = client.generate(
        MODEL, "Describe this image.", images=[SHELF.read_bytes()], options={**GREEDY, "num_predict": 3}
    )
    assert (cut.done_reason, cut.eval_count) == ("length", 3)


def test_loading_and_unloading(client: ollama.Client) -> None:
    """An empty prompt loads the model; `ollama stop` sends one too."""
    assert client.generate(MODEL).done_reason == "load"
    assert client.generate(MODEL, "", keep_alive=0).done_reason == "unload"
    assert client.chat(MODEL, messages=[]).done_reason == "load"
    assert [line.done for line in client.chat(MODEL, messages=[], stream=True)] == [True]
    assert client.chat(MODEL, messages=[], keep_alive="0s").done_reason == "unload"
    assert client.generate(MODEL, QUESTION, keep_alive=0, options={"num_predict": 1}).done_reason == "length"


def test_models(client: ollama.Client) -> None:
    assert [model.model for model in client.list().models] == [f"{MODEL}:latest"]
    shown = client.show(MODEL)
    assert shown.capabilities == ["completion", "vision", "tools"]
    assert shown.modelinfo
    assert shown.modelinfo["qwen3vl.context_length"] == 4096
    (running,) = client.ps().models
    assert running.context_length == 4096
    assert client.pull(f"{MODEL}:latest").status == "success"
    assert [step.status for step in client.pull(MODEL, stream=True)] == ["success"]


def test_errors(client: ollama.Client) -> None:
    """The client takes the message from `error`; with a 404 programs offer to pull the model."""
    with pytest.raises(ollama.ResponseError, match="is not served here") as missing:
        client.chat("llama3", messages=[shelf()])
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match=r"^the prompt has \d+ tokens") as long:
        list(client.generate(MODEL, "a " * 5000, stream=True))
    assert long.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match=r"^options.mirostat is not supported") as refused:
        client.generate(MODEL, "a", options={"mirostat": 2})
    assert refused.value.status_code == 400
    refusals = (
        lambda: client.pull("llama3"),
        lambda: client.push(MODEL),
        lambda: client.create("other", from_=MODEL),
        lambda: client.copy(MODEL, "other"),
        lambda: client.delete(MODEL),
        lambda: client.embed(MODEL, "text"),
        lambda: client.embeddings(MODEL, "text"),
    )
    for refusal in refusals:
        with pytest.raises(ollama.ResponseError, match=r"is not (supported|served)"):
            refusal()


def test_home_assistants_request(server: Server) -> None:
    """Its conversation agent streams, with tools, a schema of its own, and options for the context."""
    parameters = {"type": "object", "properties": {"bottles": {"type": "integer"}, "cans": {"type": "integer"}}}
    request = {
        "model": f"{MODEL}:latest",
        "messages": [
            {"role": "system", "content": "You are a voice assistant for Home Assistant."},
            {"role": "user", "content": "Hello"},
        ],
        "tools": [{"type": "function", "function": {"name": "report_count", "parameters": parameters}}],
        "stream": True,
        "options": {"num_ctx": 8192, "num_predict": 8},
        "keep_alive": "-1s",
        "think": False,
    }
    reply = send_request(server, request, "/api/chat").getresponse()
    assert reply.status == 200
    assert reply.getheader("content-type") == "application/x-ndjson"
    assert json.loads(reply.read().splitlines()[-1])["done"]


def test_open_webuis_request(server: Server) -> None:
    """It sends the fields that its settings leave open as null or with neutral values."""
    content = {"content": QUESTION, "images": [shelf_base64()]}
    options = {"temperature": 0, "stop": None, "num_ctx": None, "repeat_last_n": None, "mirostat": 0}
    request = {"model": MODEL, "messages": [{"role": "user", **content}], "stream": False, "options": options}
    reply = post(server, {**request, "format": None, "keep_alive": None, "tools": None, "think": None}, "/api/chat")
    assert reply.json["message"] == {"role": "assistant", "content": "6"}


def shelf_base64() -> str:
    return str(ollama.Image(value=SHELF).serialize_model())


def test_ollamas_examples_for_curl(server: Server) -> None:
    """Curl and urllib send JSON as a form unless they are told otherwise, and Ollama's examples do not tell them."""
    body = json.dumps({"model": MODEL, "prompt": QUESTION, "images": [shelf_base64()], "stream": False}).encode()
    request = urllib.request.Request(f"{server.url}/api/generate", body)
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert request.get_header("Content-type") == "application/x-www-form-urlencoded"
        assert json.loads(reply.read())["response"] == "6"


def test_errors_have_ollamas_format_before_any_endpoint(server: Server) -> None:
    """Also those of the middleware and of unknown paths."""
    replies = [
        get(server, "/api/nothing"),
        get(server, "/api/chat"),
        post(server, b"{", "/api/generate"),
        post(server, {}, "/api/chat", {"Content-Type": "text/html"}),
        post(server, {}, "/api/chat", {"Origin": "http://evil.example"}),
    ]
    assert [reply.status for reply in replies] == [404, 405, 400, 415, 403]
    assert all(isinstance(reply.json["error"], str) and list(reply.json) == ["error"] for reply in replies)
    assert get(server, "/api/version").json["version"]


def test_an_error_in_a_stream_is_its_last_line(strict_server: Server) -> None:
    """The client raises it."""
    numbers = {"type": "array", "items": {"type": "integer"}, "minItems": 1000}
    given: dict[str, Any] = {"format": numbers, "options": {"temperature": 2, "num_predict": 3900}}
    messages = [{"role": "user", "content": "Numbers"}]
    with (
        ollama.Client(host=strict_server.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client,
        pytest.raises(ollama.ResponseError, match="deadline"),
    ):
        list(client.chat(MODEL, messages=messages, stream=True, **given))


def test_a_key_is_demanded_in_ollamas_format(strict_server: Server) -> None:
    with ollama.Client(host=strict_server.url, timeout=60) as client:
        with pytest.raises(ollama.ResponseError, match="a valid API key is needed") as refused:
            client.list()
        assert refused.value.status_code == 401
