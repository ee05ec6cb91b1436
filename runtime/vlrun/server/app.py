"""The service as an ASGI application: which path leads where, and how the whole is doing.

Knows the routes and the model's state; the words of each endpoint are in its voice, the way of a request in ``desk``.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import msgspec
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from vlrun.engine.watchdog import EngineState
from vlrun.server.api import chat_adapter as voice_chat
from vlrun.server.api import form_adapter as voice_form
from vlrun.server.api import other_responses as others
from vlrun.server.api import responses_adapter as voice_responses
from vlrun.server.api.docs_page import asset
from vlrun.server.api.openapi import document
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import ServerLimits
from vlrun.server.logging import AccessLogMiddleware
from vlrun.server.metrics import CONTENT_TYPE, Metrics
from vlrun.server.middleware.api_keys import ApiKeys
from vlrun.server.middleware.security import SecurityMiddleware
from vlrun.server.request_handler import RequestHandler, ResponseAdapter, send_whole
from vlrun.server.tokenize import counted
from vlrun.types.options import Options
from vlrun.types.turn import Turn
from vlrun.vlm import VLM

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]
NOWHERE = ApiError(404, "there is nothing at this path: /docs shows what there is", "not_found")


@dataclass(frozen=True)
class Access:
    """Who may come: further names of this host, further origins of web pages, keys (None: anybody)."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    keys: ApiKeys | None = None


class Service:
    """One model behind HTTP. ``names``: what clients may call it, the first is what it calls itself."""

    def __init__(
        self, vlm: VLM, names: tuple[str, ...], limits: ServerLimits, access: Access, log_prompts: bool = False
    ) -> None:
        self.vlm = vlm
        self.names = names
        self.limits = limits
        self.access = access
        self.stopping = False
        self.connections: Callable[[], int] = lambda: 0
        self._started = int(time.time())
        self._loaded = False
        self.metrics = Metrics(self._state, self._counts)
        self.desk = RequestHandler(vlm, limits, self.metrics, log_prompts)

    async def load(self) -> None:
        """Until the model has answered once. Raises ModelError or DeviceError."""
        await asyncio.to_thread(self._warm_up)
        self._loaded = True
        self.desk.opened.set()

    def _warm_up(self) -> None:
        self.vlm.wait()
        self.vlm.grammar_tokenizer.load()  # takes 1 s and holds the interpreter's lock: not in the first request
        self.vlm.grammar_tokenizer.completing_tokens(self.vlm.family.tool_calls.begin.encode())
        for _ in self.vlm.chat([Turn("user", ("Hello",))], Options(max_tokens=2)):
            pass

    @property
    def busy(self) -> int:
        """Requests that are not answered yet."""
        return len(self.desk.visits)

    def progressing(self) -> bool:
        """Whether the engine gets on, or has nothing to do."""
        return self.vlm.state().progressing

    def close(self) -> None:
        """Stop the model and all threads."""
        self.desk.workshop.close()
        self.vlm.close()

    def application(self) -> ASGIApp:
        """What uvicorn serves."""
        routes = [Route(path, _Methods(methods)) for path, methods in self._paths().items()]
        router = Router(routes, redirect_slashes=False, default=_nowhere)
        access = self.access
        return AccessLogMiddleware(
            SecurityMiddleware(router, access.hosts, access.origins, access.keys, lambda: self.stopping),
            self.metrics.sent,
        )

    def _paths(self) -> dict[str, dict[str, Endpoint]]:
        names, limits = self.names, self.limits
        written = functools.cache(lambda: document(limits, names[0], self.access.keys is not None))
        return {
            "/v1/chat/completions": {"POST": self._voiced("chat", lambda body: voice_chat.read(body, names, limits))},
            "/v1/responses": {
                "POST": self._voiced("responses", lambda body: voice_responses.read(body, names, limits))
            },
            "/v1/tokenize": {"POST": self._tokenize},
            "/v1/models": {"GET": _said(lambda _: others.models(names, self._started, self._context()))},
            "/v1/models/{name:path}": {"GET": _said(self._model)},
            "/api/v1/chat": {"POST": self._form(others.form_chat_answer)},
            "/api/v1/analyze": {"POST": self._form(others.form_analyze_answer)},
            "/health/live": {"GET": _said(lambda _: others.Alive())},
            "/health/ready": {"GET": self._ready},
            "/metrics": {"GET": self._metrics},
            "/openapi.json": {"GET": _said(lambda _: written())},
            "/docs": {"GET": _asset},
            "/docs/{name}": {"GET": _asset},
        }

    def _voiced(self, endpoint: str, read: Callable[[bytes], ResponseAdapter]) -> Endpoint:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            _check_json(scope)
            await self.desk.respond(scope, receive, send, endpoint, read)

        return answer

    def _form(self, shaped: voice_form.Shaped) -> Endpoint:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            kind = dict(scope["headers"]).get(b"content-type", b"")
            try:
                await self.desk.respond(
                    scope, receive, send, "form", lambda body: voice_form.read(kind, body, shaped, self.limits)
                )
            except ApiError as error:
                raise voice_form.with_415(error) from error

        return answer

    async def _tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        _check_json(scope)
        await self.desk.compute(scope, receive, send, "tokenize", lambda body: counted(self.desk, self.names, body))

    def _model(self, scope: Scope) -> others.Model:
        name = scope["path_params"]["name"]
        if name not in self.names:
            raise ApiError(404, "no such model is served here", "model_not_found", "model")
        return others.model(name, self._started, self._context())

    async def _ready(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - an endpoint
        status, admission = self._status(), self.desk.admission
        told = others.Readiness(
            ready=status == "ready",
            status=status,
            model=self.names[0],
            device=self.vlm.device if self._loaded else "",
            queue=others.Queue(running=admission.running, waiting=admission.waiting, limit=self.limits.queue),
            notes=list(self.vlm.notes) if self._loaded else [],
        )
        await send_whole(send, msgspec.json.encode(told), status=200 if told.ready else 503)

    def _status(self) -> others.Status:
        if self.stopping:
            return "stopping"
        if not self._loaded:
            return "loading"
        return "ready" if self.progressing() else "stuck"

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - an endpoint
        await send_whole(send, self.metrics.text(), CONTENT_TYPE.encode())

    def _context(self) -> int | None:
        return self.vlm.context if self._loaded else None

    def _state(self) -> EngineState | None:
        return self.vlm.state() if self._loaded else None

    def _counts(self) -> dict[str, float]:
        return {
            "requests_waiting": self.desk.admission.waiting,
            "answers_running": self.desk.admission.running,
            "body_bytes": self.desk.bodies.held,
            "connections": self.connections(),
        }


class _Methods:
    """An endpoint by method; HEAD is GET without a body, which uvicorn leaves out."""

    def __init__(self, methods: Mapping[str, Endpoint]) -> None:
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in self._methods:
            allowed = ", ".join(self._methods)
            raise ApiError(405, f"this path takes {allowed}", "method_not_allowed", headers=(("allow", allowed),))
        await self._methods[method](scope, receive, send)


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - an endpoint
    raise replace(NOWHERE)


def _check_json(scope: Scope) -> None:
    """A browser sends forms to strangers without asking them, so a form is read where forms belong and nowhere else."""
    if dict(scope["headers"]).get(b"content-type", b"").lower().startswith(b"multipart/"):
        raise ApiError(415, "the Content-Type must be application/json", "invalid_type")


def _said(make: Callable[[Scope], object]) -> Endpoint:
    """An endpoint that answers with a value as JSON."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - an endpoint
        await send_whole(send, msgspec.json.encode(make(scope)))

    return answer


async def _asset(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - an endpoint
    """The documentation page and what it needs."""
    found = asset(scope["path_params"].get("name", "index.html"))
    if found is None:
        raise replace(NOWHERE)
    body, headers = found
    await send_whole(send, body, headers[b"content-type"], 200, headers)
