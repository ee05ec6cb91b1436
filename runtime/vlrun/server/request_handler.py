"""The way of one request: its body, its job, its turn, its answers, whole or as a stream, and every way it can end.

Each endpoint brings a ``ResponseAdapter``. Knows ASGI, the queue and the threads; knows no endpoint's schema.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from starlette.types import Receive, Scope, Send

from vlrun.errors import AnswerCancelled, VlrunError
from vlrun.server.admission import SETTLED_SECONDS, Admission
from vlrun.server.api_errors import ApiError, api_error
from vlrun.server.generation_request import AnswerChunk, GenerationRequest
from vlrun.server.images import check
from vlrun.server.limits import MIB, ServerLimits
from vlrun.server.logging import MAX_ASKED, note
from vlrun.server.metrics import Metrics
from vlrun.server.middleware.request_body import BodyBudget, hold_body
from vlrun.server.sse import HEARTBEAT_SECONDS, EventStream, comment
from vlrun.server.worker_pool import WorkerPool
from vlrun.types.answer import Answer
from vlrun.vlm import VLM

T = TypeVar("T")

LARGE_BODY = 64 * 1024
"""Bytes from which on a body is read in a thread: parsing it would keep streams waiting."""
STOPPING = ApiError(503, "the service is stopping", "stopping", retry_after=5)
TOO_LATE = ApiError(504, "the request took longer than its deadline", "deadline_exceeded", retry_after=5)


class ResponseAdapter(Protocol):
    """How an endpoint says what is answered. ``fields``: its names for those that errors of a job name."""

    job: GenerationRequest
    fields: Mapping[str, str]

    def whole(self, answers: Sequence[Answer]) -> bytes:
        """The body of an answer that is not streamed."""


@runtime_checkable
class StreamingResponseAdapter(ResponseAdapter, Protocol):
    """How it says that as a stream."""

    def begin(self) -> Sequence[bytes]:
        """The first events of a stream."""

    def pieces(self, pieces: Sequence[AnswerChunk]) -> Sequence[bytes]:
        """The events of what has come."""

    def end(self, answers: Sequence[Answer]) -> Sequence[bytes]:
        """The last events of a stream."""

    def failed(self, error: ApiError) -> Sequence[bytes]:
        """The last events of a stream that could not go on."""


@dataclass(eq=False)
class RequestContext:
    """One request on its way, for the log and the metrics."""

    endpoint: str
    client: str
    began: float = field(default_factory=time.monotonic)
    outcome: str = "500"
    answers: list[Answer] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began


class RequestHandler:
    """Serves requests with one model. ``log_prompts``: write questions and answers into the log."""

    def __init__(self, vlm: VLM, limits: ServerLimits, metrics: Metrics, log_prompts: bool = False) -> None:
        self.vlm = vlm
        self.limits = limits
        self.metrics = metrics
        self.admission = Admission(limits)
        self.workshop = WorkerPool(vlm, limits)
        self.bodies = BodyBudget(limits.bodies_mib * MIB)
        self.visits: set[RequestContext] = set()
        self.opened = asyncio.Event()
        """Set once the model answers. Whoever comes before waits here, not in a thread."""
        self._log_prompts = log_prompts
        self._ended: asyncio.Future[None] | None = None

    async def respond(
        self, scope: Scope, receive: Receive, send: Send, endpoint: str, read: Callable[[bytes], ResponseAdapter]
    ) -> None:
        """Serve a request for answers. ``read`` makes the voice out of the body. Raises ApiError before anything is
        sent; once a stream has begun, errors are its last event.
        """
        async with self._visit(scope, receive, endpoint) as (visit, body):
            voice = await self._read(body, read)
            if self._log_prompts:
                texts = [part for part in voice.job.turns[-1].parts if isinstance(part, str)]
                note("asked", longest=MAX_ASKED, client=visit.client, text="".join(texts))
            visit.outcome = await self._answer(visit, voice, receive, send)

    async def compute(
        self, scope: Scope, receive: Receive, send: Send, endpoint: str, work: Callable[[bytes], bytes]
    ) -> None:
        """Serve a request for JSON that a thread makes out of its body in little time. Raises ApiError."""

        async def computed() -> bytes:
            async with asyncio.timeout(self.limits.deadline), self.admission.turn(visit.client, 1, brief=True):
                await self.opened.wait()
                return await self.workshop.short(lambda: work(body))

        async with self._visit(scope, receive, endpoint) as (visit, body):
            try:
                found = await self._unless_left(receive, computed())
            except AnswerCancelled:
                raise
            except (VlrunError, TimeoutError) as reason:
                raise _told(reason, {}) from reason
            await send_whole(send, found)
            visit.outcome = "ok"

    @asynccontextmanager
    async def _visit(
        self, scope: Scope, receive: Receive, endpoint: str
    ) -> AsyncIterator[tuple[RequestContext, bytes]]:
        """A request and its body, from its first byte to its end."""
        visit = RequestContext(endpoint, client_of(scope))
        self.visits.add(visit)
        try:
            async with hold_body(scope, receive, self.limits, self.bodies) as body:
                yield visit, body
        except AnswerCancelled:
            visit.outcome = "left"
            raise
        except ApiError as error:
            visit.outcome = str(error.status)
            raise
        finally:
            self.visits.discard(visit)
            self._tell(visit)

    async def _read(self, body: bytes, read: Callable[[bytes], ResponseAdapter]) -> ResponseAdapter:
        def checked() -> ResponseAdapter:
            voice = read(body)
            check(voice.job.images, self.limits)
            return voice

        return checked() if len(body) < LARGE_BODY else await self.workshop.short(checked)

    async def _answer(self, visit: RequestContext, voice: ResponseAdapter, receive: Receive, send: Send) -> str:
        """Do the work, unless the client leaves, the deadline comes or the service ends; how it went."""
        try:
            if isinstance(voice, StreamingResponseAdapter) and voice.job.stream:
                return await self._stream(visit, voice, receive, EventStream(send))
            await self._unless_left(receive, self._whole(visit, voice, send))
        except AnswerCancelled:
            raise
        except (VlrunError, TimeoutError) as reason:
            raise _told(reason, voice.fields) from reason
        return "ok"

    async def _stream(
        self, visit: RequestContext, voice: StreamingResponseAdapter, receive: Receive, stream: EventStream
    ) -> str:
        """A stream that has begun tells by itself what goes wrong."""
        try:
            await self._unless_left(receive, self._streamed(visit, voice, stream))
        except (VlrunError, ApiError, TimeoutError) as reason:
            if not stream.begun or isinstance(reason, AnswerCancelled):
                raise
            error = _told(reason, voice.fields)
            await stream.send(*voice.failed(error))
            await stream.end()
            return str(error.status)
        return "ok"

    async def _whole(self, visit: RequestContext, voice: ResponseAdapter, send: Send) -> None:
        await send_whole(send, voice.whole(await self._answers(visit, voice.job)))

    async def _streamed(self, visit: RequestContext, voice: StreamingResponseAdapter, stream: EventStream) -> None:
        pulse = asyncio.ensure_future(_keep_alive(stream))
        opened = False

        async def tell(pieces: Sequence[AnswerChunk]) -> None:
            nonlocal opened
            events = [*([] if opened else voice.begin()), *voice.pieces(pieces)]
            opened = True
            comments = () if voice.job.include_progress else _progress(pieces)
            if comments or events:
                await stream.send(*comments, *events)

        try:
            answers = await self._answers(visit, voice.job, tell)
        finally:
            pulse.cancel()
            await asyncio.gather(pulse, return_exceptions=True)
        await stream.send(*voice.end(answers))
        await stream.end()

    async def _answers(
        self,
        visit: RequestContext,
        job: GenerationRequest,
        tell: Callable[[Sequence[AnswerChunk]], Coroutine[Any, Any, None]] | None = None,
    ) -> list[Answer]:
        """All answers of a job, once it is its turn."""
        done: dict[int, Answer] = {}
        async with (
            asyncio.timeout(self.limits.deadline),
            self._turn(visit, job),
            self.workshop.answers(job) as arriving,
        ):
            async for pieces in arriving:
                done |= {piece.index: piece.chunk.answer for piece in pieces if piece.chunk.answer}
                if tell:
                    await tell(pieces)
        visit.answers = [done[index] for index in sorted(done)]
        return visit.answers

    @asynccontextmanager
    async def _turn(self, visit: RequestContext, job: GenerationRequest) -> AsyncIterator[None]:
        async with self.admission.turn(visit.client, job.n):
            await self.opened.wait()
            self.metrics.waited(visit.seconds)
            yield

    async def _unless_left(self, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
        """Do the work. Raises AnswerCancelled if the client leaves, ApiError if the service ends."""
        ended = self._end()
        working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
        watched: list[asyncio.Future[Any]] = [working, leaving, ended]
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise replace(STOPPING) if ended.done() else AnswerCancelled("the client has left")
        finally:
            leaving.cancel()
            if not working.done():  # or what it raised would be raised again, as if it came from here
                working.cancel()
                with suppress(asyncio.CancelledError, VlrunError, ApiError, TimeoutError):
                    await working

    def _end(self) -> asyncio.Future[None]:
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        return self._ended

    def end(self) -> None:
        """Cancel whatever still runs: the service stops."""
        if not self._end().done():
            self._end().set_result(None)

    def _tell(self, visit: RequestContext) -> None:
        """Into metrics and log."""
        self.metrics.ended(visit.endpoint, visit.outcome, visit.seconds)
        for answer in visit.answers:
            self.metrics.answered(answer)
            if self._log_prompts:
                note("answered", longest=MAX_ASKED, client=visit.client, text=answer.text)


def client_of(scope: Scope) -> str:
    """Who asks: the name of its key, or its address."""
    address = scope.get("client")
    return f"{scope.get('state', {}).get('key') or ''}@{address[0] if address else 'local'}"


async def send_whole(
    send: Send,
    body: bytes,
    kind: bytes = b"application/json",
    status: int = 200,
    more: Mapping[bytes, bytes] | None = None,
) -> None:
    """An answer that is no stream. ``kind``: its content type; ``more``: further headers."""
    headers = {b"content-type": kind, b"content-length": str(len(body)).encode(), **(more or {})}
    await send({"type": "http.response.start", "status": status, "headers": list(headers.items())})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _told(reason: BaseException, fields: Mapping[str, str]) -> ApiError:
    """``fields``: an endpoint's names for those of a job."""
    if isinstance(reason, ApiError):
        return reason
    error = api_error(reason) if isinstance(reason, VlrunError) else replace(TOO_LATE)
    error.param = fields.get(error.param or "", error.param)
    return error


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _keep_alive(stream: EventStream) -> None:
    """Begin a stream although its turn has not come, and send a comment whenever nothing was sent for a while."""
    await asyncio.sleep(SETTLED_SECONDS)
    while True:
        if stream.silence >= HEARTBEAT_SECONDS:
            await stream.send(comment("still there"))
        await asyncio.sleep(HEARTBEAT_SECONDS - stream.silence)


def _progress(pieces: Sequence[AnswerChunk]) -> list[bytes]:
    """A comment about how far each phase is of which that was told."""
    told = {piece.chunk.progress.phase: piece.chunk.progress for piece in pieces if piece.chunk.progress}
    return [comment(f"{phase} {100 * last.done // max(last.total, 1)} %") for phase, last in told.items()]
