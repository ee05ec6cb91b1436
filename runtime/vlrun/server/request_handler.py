"""One request from its body to its answer, whole or streamed, through the queue and the worker threads.

Each endpoint brings a ``ResponseAdapter``; its schema is not known here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

from starlette.types import Receive, Scope, Send

from vlrun.engine.request import Cancellation
from vlrun.errors import AnswerCancelled, VlrunError
from vlrun.server.admission import SETTLED_SECONDS, Admission
from vlrun.server.api_errors import ApiError, api_error
from vlrun.server.generation_request import AnswerChunk, GenerationRequest, ResponseAdapter
from vlrun.server.image_store import ImageStore, named_bytes
from vlrun.server.images import STORED, check_images
from vlrun.server.limits import MIB, ServerLimits
from vlrun.server.logging import MAX_PROMPT, log_event, record_error
from vlrun.server.metrics import Metrics
from vlrun.server.middleware.request_body import BodyBudget, hold_body
from vlrun.server.sse import HEARTBEAT_SECONDS, EventStream
from vlrun.server.worker_pool import WorkerPool
from vlrun.types.answer import Answer, Progress
from vlrun.vlm import VLM

T = TypeVar("T")
SendChunks: TypeAlias = Callable[[Sequence[AnswerChunk]], Coroutine[Any, Any, None]]

JSON_HEADERS: Mapping[bytes, bytes] = {b"content-type": b"application/json"}
LARGE_BODY = 64 * 1024
"""Bodies from this size on are parsed in a thread, so that streams do not wait for it."""
STORED_URL = STORED.encode()
"""In bodies that may name stored images: these are checked in a thread, however small the body."""
STOPPING = ApiError(503, "the service is stopping", "stopping", retry_after=5)
TIMED_OUT = ApiError(504, "the request took longer than its deadline", "deadline_exceeded", retry_after=5)


@dataclass(eq=False)
class RequestContext:
    """A request in progress, for the log and the metrics. ``outcome``: ``ok``, ``left``, or the status of its error."""

    endpoint: str
    client: str
    started: float = field(default_factory=time.monotonic)
    outcome: str = "500"
    answers: list[Answer] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds since the request began."""
        return time.monotonic() - self.started


class RequestHandler:
    """Answers requests with one model. ``log_prompts``: log questions and answers."""

    def __init__(self, vlm: VLM, limits: ServerLimits, metrics: Metrics, log_prompts: bool = False) -> None:
        self.vlm = vlm
        self.limits = limits
        self.metrics = metrics
        self.admission = Admission(limits)
        self.workers = WorkerPool(vlm, limits)
        self.images = ImageStore(limits)
        self._image_turns = Admission(replace(limits, parallel=1))
        self.bodies = BodyBudget(limits.bodies_mib * MIB, limits.client_bodies_mib * MIB)
        self.active: set[RequestContext] = set()
        self.ready = asyncio.Event()
        """Set once the model answers. Requests that come earlier wait for it without a thread."""
        self._log_prompts = log_prompts
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Cancel all requests that still run."""
        self._stopped.set()

    async def respond(
        self, scope: Scope, receive: Receive, send: Send, endpoint: str, read: Callable[[bytes], ResponseAdapter]
    ) -> None:
        """Answer a request. ``read`` makes the adapter from the body. Raises ApiError before anything is sent; once a
        stream has begun, an error is its last event.
        """
        owner = owner_of(scope)

        def checked(body: bytes) -> ResponseAdapter:
            adapter = read(body)
            adapter.request = self.images.resolve(adapter.request, owner)
            check_images(adapter.request.images, self.limits)
            return adapter

        async with self.context(scope, receive, endpoint) as (context, body):
            small = len(body) < LARGE_BODY and STORED_URL not in body
            adapter = checked(body) if small else await self.workers.run(lambda: checked(body))
            if self._log_prompts and adapter.request.messages:
                texts = [part for part in adapter.request.messages[-1].parts if isinstance(part, str)]
                log_event("prompt", max_length=MAX_PROMPT, client=context.client, text="".join(texts))
            stream = EventStream(send, adapter.content_type)
            try:
                with (
                    _as_api_errors(adapter.renamed_params),
                    self.bodies.hold(named_bytes(adapter.request), context.client),
                ):
                    await self.run_until_left(receive, self._answer(context, adapter, send, stream))
                context.outcome = "ok"
            except ApiError as error:
                if not stream.begun:
                    raise
                record_error(scope, error.code, error.param)
                await stream.send(*adapter.failed(error))
                await stream.end()
                context.outcome = str(error.status)

    async def compute(
        self, scope: Scope, receive: Receive, send: Send, endpoint: str, work: Callable[[bytes, Cancellation], bytes]
    ) -> None:
        """Answer a request with JSON that a thread computes from its body. Raises ApiError."""

        async def computed() -> bytes:
            async with asyncio.timeout(self.limits.deadline), self.admission.slot(context.client, 1, brief=True):
                await self.ready.wait()
                return await self.workers.run_in_turn(lambda cancellation: work(body, cancellation))

        async with self.context(scope, receive, endpoint) as (context, body):
            with _as_api_errors({}):
                result = await self.run_until_left(receive, computed())
            await send_whole(send, result)
            context.outcome = "ok"

    async def reply(
        self, scope: Scope, receive: Receive, send: Send, endpoint: str, work: Callable[[bytes], bytes]
    ) -> None:
        """Answer a request at once with JSON that takes no time to make from its body. Raises ApiError."""
        async with self.context(scope, receive, endpoint) as (context, body):
            await send_whole(send, work(body))
            context.outcome = "ok"

    async def process_image(self, context: RequestContext, work: Callable[[Cancellation], T]) -> T:
        """Run work on an image that belongs to no answer, when it is the client's turn. It does not wait for answers,
        nor for the model. Raises ApiError.
        """
        with _as_api_errors({}):
            async with asyncio.timeout(self.limits.deadline), self._image_turns.slot(context.client, 1):
                return await self.workers.run_on_image(work)

    @asynccontextmanager
    async def context(
        self, scope: Scope, receive: Receive, endpoint: str
    ) -> AsyncIterator[tuple[RequestContext, bytes]]:
        """A request with its body; afterwards it is logged and counted."""
        context = RequestContext(endpoint, client_name(scope))
        self.active.add(context)
        try:
            async with hold_body(scope, receive, self.limits, self.bodies, context.client) as body:
                yield context, body
        except AnswerCancelled:
            context.outcome = "left"
            raise
        except ApiError as error:
            context.outcome = str(error.status)
            raise
        finally:
            self.active.discard(context)
            self.metrics.request_ended(context.endpoint, context.outcome, context.seconds)
            for answer in context.answers:
                self.metrics.answered(answer)
                if self._log_prompts:
                    log_event("answer", max_length=MAX_PROMPT, client=context.client, text=answer.text)

    async def _answer(self, context: RequestContext, adapter: ResponseAdapter, send: Send, stream: EventStream) -> None:
        request = adapter.request
        if not request.stream or not request.messages:
            await self._generate(context, request)
            await send_whole(send, adapter.whole(context.answers))
            return
        first = True

        async def send_chunks(chunks: Sequence[AnswerChunk]) -> None:
            nonlocal first
            events = adapter.begin() if first else []
            events += [event for chunk in chunks for event in adapter.events(chunk)]
            first = False
            if not request.include_progress:
                events = [*filter(None, map(adapter.waiting, _latest_progress(chunks))), *events]
            if events:
                await stream.send(*events)

        heartbeat = asyncio.ensure_future(_send_heartbeats(stream, adapter.waiting(None)))
        try:
            await self._generate(context, request, send_chunks)
        finally:
            heartbeat.cancel()
            await asyncio.gather(heartbeat, return_exceptions=True)
        await stream.send(*adapter.end(context.answers))
        await stream.end()

    async def _generate(
        self,
        context: RequestContext,
        request: GenerationRequest,
        on_chunks: SendChunks | None = None,
    ) -> None:
        """Wait for the request's turn and generate its answers into ``context``.

        Its slot is free once they are generated, although a slow client may still read them.
        """
        if not request.messages:
            async with asyncio.timeout(self.limits.deadline):
                await self.ready.wait()
            return
        answers: dict[int, Answer] = {}
        async with (
            asyncio.timeout(self.limits.deadline),
            _delivering(on_chunks) as deliver,
            self.admission.slot(context.client, request.parallel),
        ):
            await self.ready.wait()
            self.metrics.queued(context.seconds)
            async with self.workers.answers(request) as batches:
                async for chunks in batches:
                    answers |= {chunk.index: chunk.chunk.answer for chunk in chunks if chunk.chunk.answer}
                    deliver(chunks)
        context.answers = [answers[index] for index in sorted(answers)]

    async def run_until_left(self, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
        """Do the work. Raises AnswerCancelled if the client leaves, ApiError if the service stops."""
        working = asyncio.ensure_future(work)
        leaving, stopping = asyncio.ensure_future(_disconnected(receive)), asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait([working, leaving, stopping], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise replace(STOPPING) if self._stopped.is_set() else AnswerCancelled("the client has left")
        finally:
            leaving.cancel()
            stopping.cancel()
            if not working.done():  # otherwise its exception would be raised twice
                working.cancel()
                with suppress(asyncio.CancelledError, VlrunError, ApiError, TimeoutError):
                    await working


@asynccontextmanager
async def _delivering(send_chunks: SendChunks | None) -> AsyncIterator[Callable[[Sequence[AnswerChunk]], None]]:
    """Send the chunks that the block passes on, in a task of its own. They are sent when the block ends, also with a
    VlrunError, but not if it is cancelled.
    """
    pending: asyncio.Queue[Sequence[AnswerChunk] | None] = asyncio.Queue()

    async def send_pending() -> None:
        while (chunks := await pending.get()) is not None:
            if send_chunks:
                await send_chunks(chunks)

    async def finish() -> None:
        pending.put_nowait(None)
        await sending

    sending = asyncio.ensure_future(send_pending())
    try:
        yield pending.put_nowait
    except VlrunError:
        await finish()
        raise
    else:
        await finish()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


@contextmanager
def _as_api_errors(renamed_params: Mapping[str, str]) -> Iterator[None]:
    """Turn errors of the engine and the deadline into ApiErrors."""
    try:
        yield
    except AnswerCancelled:
        raise
    except (VlrunError, TimeoutError) as reason:
        error = api_error(reason) if isinstance(reason, VlrunError) else replace(TIMED_OUT)
        error.param = renamed_params.get(error.param or "", error.param)
        raise error from reason


def owner_of(scope: Scope) -> str:
    """The name of the request's key, whose images it may name; without keys all have the same."""
    return str(scope.get("state", {}).get("key") or "")


def client_name(scope: Scope) -> str:
    """The name of the client's key and its address."""
    address = scope.get("client")
    return f"{owner_of(scope)}@{address[0] if address else 'local'}"


async def send_whole(send: Send, body: bytes, status: int = 200, headers: Mapping[bytes, bytes] = JSON_HEADERS) -> None:
    """Send an answer that is not streamed."""
    sized = [*headers.items(), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": sized})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_heartbeats(stream: EventStream, heartbeat: bytes) -> None:
    """Begin a stream whose turn takes long, and send a heartbeat whenever it was silent for a while."""
    await asyncio.sleep(SETTLED_SECONDS)
    while True:
        if stream.silence >= HEARTBEAT_SECONDS:
            await stream.send(heartbeat)
        await asyncio.sleep(HEARTBEAT_SECONDS - stream.silence)


def _latest_progress(chunks: Sequence[AnswerChunk]) -> list[Progress]:
    """The latest progress of each phase."""
    latest = {chunk.chunk.progress.phase: chunk.chunk.progress for chunk in chunks if chunk.chunk.progress}
    return list(latest.values())
