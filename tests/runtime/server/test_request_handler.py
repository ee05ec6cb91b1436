"""Requests that end without an answer: errors, disconnects, deadlines."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.types import Message, Scope

from vlrun.errors import AnswerCancelled, DeviceError, VlrunError
from vlrun.models.qwen3_vl.tool_calls import TOOL_CALLS
from vlrun.server.api.ollama.adapter import OllamaAdapter
from vlrun.server.api.ollama.parsing import ParsedRequest
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import AnswerChunk, GenerationRequest, RequestMessage, ResponseAdapter
from vlrun.server.limits import ServerLimits
from vlrun.server.metrics import Metrics
from vlrun.server.request_handler import RequestContext, RequestHandler
from vlrun.types.answer import Answer, Chunk
from vlrun.vlm import VLM


async def stay_connected() -> Message:
    await asyncio.sleep(10)
    return {"type": "http.disconnect"}


async def disconnect() -> Message:
    return {"type": "http.disconnect"}


def handler() -> RequestHandler:
    return RequestHandler(cast(VLM, None), ServerLimits(), cast(Metrics, None))


def test_an_error_keeps_its_traceback() -> None:
    """The log names the line that failed, not the one that raised the error again."""

    async def broken() -> None:
        raise ValueError("zebra")

    with pytest.raises(ValueError, match="zebra") as caught:
        asyncio.run(handler().run_until_left(stay_connected, broken()))
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "broken"


def test_work_of_a_disconnected_client_ends_before_its_slot_is_free() -> None:
    """The next request must not start while the cancelled work still runs."""
    ended: list[str] = []

    async def working() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.01)
            ended.append("over")

    with pytest.raises(AnswerCancelled):
        asyncio.run(handler().run_until_left(disconnect, working()))
    assert ended == ["over"]


def test_a_token_count_has_a_deadline() -> None:
    """Row 30 for /v1/tokenize: a request whose slot does not come gets 504."""

    async def scenario() -> None:
        short_deadline = RequestHandler(
            cast(VLM, None), ServerLimits(parallel=1, deadline=0.05), Metrics(lambda: None, dict)
        )
        scope: Scope = {"type": "http", "headers": []}
        body: Message = {"type": "http.request", "body": b"{}"}
        messages = iter([body])

        async def receive() -> Message:
            return next(messages, None) or await stay_connected()

        async def send(message: Message) -> None:
            raise AssertionError(message)

        async with short_deadline.admission.slot("another", 1):
            with pytest.raises(ApiError) as ended:
                await short_deadline.compute(scope, receive, send, "tokenize", lambda body, _: body)
        assert (ended.value.status, ended.value.code) == (504, "deadline_exceeded")
        assert short_deadline.admission.waiting == short_deadline.bodies.held == len(short_deadline.active) == 0

    asyncio.run(scenario())


class FakeModel:
    """A model whose answer has two chunks, or that fails after the first."""

    def __init__(self, error: VlrunError | None = None) -> None:
        self._error = error
        self.begun = threading.Event()

    def chat(self, *_: object) -> Iterator[Chunk]:
        self.begun.set()
        yield Chunk("one")
        if self._error:
            raise self._error
        yield Chunk("two", answer=cast(Answer, SimpleNamespace()))


def generating(
    model: FakeModel, send: Callable[[Sequence[AnswerChunk]], Coroutine[Any, Any, None]]
) -> tuple[RequestHandler, Coroutine[Any, Any, None]]:
    service = RequestHandler(cast(VLM, model), ServerLimits(deadline=30), Metrics(lambda: None, dict))
    service.ready.set()
    request = GenerationRequest((RequestMessage("user", ("hi",)),), stream=True)
    return service, service._generate(RequestContext("chat", "client"), request, send)


@pytest.mark.fault(28)
def test_a_client_that_reads_slowly_does_not_hold_its_slot() -> None:
    """Four clients that read nothing of finished answers kept all slots for 30 s each."""

    async def scenario() -> None:
        reading = asyncio.Event()
        received: list[str] = []

        async def send(chunks: Sequence[AnswerChunk]) -> None:
            await reading.wait()
            received.extend(chunk.chunk.text for chunk in chunks)

        model = FakeModel()
        service, work = generating(model, send)
        task = asyncio.ensure_future(work)
        assert await asyncio.to_thread(model.begun.wait, 20)
        async with asyncio.timeout(20):
            while service.admission.running:
                await asyncio.sleep(0.01)
            assert not task.done()
            reading.set()
            await task
        assert "".join(received) == "onetwo"
        service.workers.close()

    asyncio.run(scenario())


def test_chunks_before_an_error_are_sent() -> None:
    """In order: the error is the last event of a stream."""

    async def scenario() -> None:
        received: list[str] = []

        async def send(chunks: Sequence[AnswerChunk]) -> None:
            await asyncio.sleep(0.01)
            received.extend(chunk.chunk.text for chunk in chunks)

        service, work = generating(FakeModel(DeviceError("broken")), send)
        with pytest.raises(DeviceError):
            await work
        assert received == ["one"]
        service.workers.close()

    asyncio.run(scenario())


def respond(read: Callable[[bytes], ResponseAdapter], service: RequestHandler) -> list[Message]:
    """Answer a request with the body ``{}``, and return what is sent."""
    sent: list[Message] = []

    async def scenario() -> None:
        messages = iter([{"type": "http.request", "body": b"{}"}])

        async def receive() -> Message:
            return next(messages, None) or await stay_connected()

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {"type": "http", "headers": []}
        await service.respond(scope, receive, send, "ollama", read)

    asyncio.run(scenario())
    return sent


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_without_messages_waits_for_the_model_only(stream: bool) -> None:
    """Ollama's clients load a model so. It needs no slot, and there is no prompt to log."""
    service = RequestHandler(cast(VLM, None), ServerLimits(), Metrics(lambda: None, dict), log_prompts=True)
    service.ready.set()
    request = GenerationRequest((), stream=stream)
    start, body = respond(lambda _: OllamaAdapter(ParsedRequest(request, "tiny"), TOOL_CALLS, "response"), service)
    assert (start["status"], dict(start["headers"])[b"content-type"]) == (200, b"application/json")
    assert b'"done_reason":"load"' in body["body"]


def test_a_stream_has_the_content_type_of_its_api() -> None:
    service = RequestHandler(
        cast(VLM, FakeModel(DeviceError("it failed"))), ServerLimits(), Metrics(lambda: None, dict)
    )
    service.ready.set()
    request = GenerationRequest((RequestMessage("user", ("hi",)),), stream=True)
    start, *bodies = respond(lambda _: OllamaAdapter(ParsedRequest(request, "tiny"), TOOL_CALLS, "message"), service)
    assert dict(start["headers"])[b"content-type"] == b"application/x-ndjson"
    lines = b"".join(message["body"] for message in bodies).splitlines()
    assert json.loads(lines[0])["message"]["content"] == "one"
    assert json.loads(lines[-1]) == {"error": "the model failed on this request"}
    service.workers.close()
