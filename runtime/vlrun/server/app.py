"""The service as an ASGI application: its routes, and the state of the model."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

import vlrun
from vlrun.backends.system_memory import available_memory
from vlrun.engine.request import Cancellation
from vlrun.engine.watchdog import EngineState
from vlrun.prompt.builder import BuiltPrompt
from vlrun.server.api import forms, strict_json, tokenize
from vlrun.server.api.answers import Json
from vlrun.server.api.anthropic import models as anthropic_models
from vlrun.server.api.anthropic.adapter import AnthropicAdapter
from vlrun.server.api.anthropic.parsing import parse_count
from vlrun.server.api.chat import ChatAdapter
from vlrun.server.api.completions import CompletionAdapter
from vlrun.server.api.ollama import models as ollama_models
from vlrun.server.api.ollama.adapter import OllamaAdapter
from vlrun.server.api.ollama.models import ServedModel
from vlrun.server.api.ollama.parsing import parse_name
from vlrun.server.api.openapi import document
from vlrun.server.api.parsing import check_model
from vlrun.server.api.paths import hint
from vlrun.server.api.responses import ResponsesAdapter
from vlrun.server.api.start_page import page
from vlrun.server.api.task_list import task_list
from vlrun.server.api_errors import ApiError, protocol_of
from vlrun.server.generation_request import GenerationRequest, ResponseAdapter
from vlrun.server.image_endpoints import ImageEndpoints
from vlrun.server.images import MEDIA_TYPES, check_images
from vlrun.server.limits import ServerLimits
from vlrun.server.logging import AccessLogMiddleware
from vlrun.server.metrics import CONTENT_TYPE, Metrics, resident_bytes
from vlrun.server.middleware.api_keys import ApiKeys
from vlrun.server.middleware.security import SecurityMiddleware
from vlrun.server.pages import ALL_PATHS, WebPage, docs_routes, is_public, wants_html
from vlrun.server.request_handler import RequestHandler, owner_of, send_whole
from vlrun.tasks.definition import Task, built_in_tasks
from vlrun.types.options import Options
from vlrun.types.turn import Turn
from vlrun.vlm import VLM

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]
MAX_DOCUMENTS = 8
"""OpenAPI documents that are kept: one for each name that clients use for this service."""


@dataclass(frozen=True)
class Access:
    """Further host names of this machine, further origins of web pages, and API keys (None: no key is needed)."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    keys: ApiKeys | None = None


class Service:
    """One model behind HTTP. ``names``: the names of the model; answers have the first. ``web``: the web page, None for
    the API alone; ``tasks``: None for the built-in ones.
    """

    def __init__(
        self,
        vlm: VLM,
        names: tuple[str, ...],
        limits: ServerLimits,
        access: Access,
        log_prompts: bool = False,
        web: WebPage | None = None,
        tasks: Mapping[str, Task] | None = None,
    ) -> None:
        self.vlm = vlm
        self.names = names
        self.limits = limits
        self.access = access
        self.web = web
        self.tasks = built_in_tasks() if tasks is None else tasks
        self._thinks = False
        self.stopping = False
        self.connections: Callable[[], int] = lambda: 0
        self.metrics = Metrics(self._engine_state, self._counts)
        self.handler = RequestHandler(vlm, limits, self.metrics, log_prompts)
        self._started = int(time.time())

    async def load(self) -> None:
        """Wait until the model has answered once. Raises ModelError or DeviceError."""
        await asyncio.to_thread(self._warm_up)
        self.handler.ready.set()

    def _warm_up(self) -> None:
        self.vlm.wait()
        self._thinks = self.vlm.thinks
        self.vlm.grammar_tokenizer.load(fast_masks=True)  # takes 1 s: not in the first request
        self.vlm.grammar_tokenizer.completing_tokens(self.vlm.family.tool_calls.begin.encode())
        for _ in self.vlm.chat([Turn("user", ("Hello",))], Options(max_tokens=2)):
            pass

    @property
    def loaded(self) -> bool:
        """Whether the model has answered once."""
        return self.handler.ready.is_set()

    @property
    def _context(self) -> int | None:
        return self.vlm.context if self.loaded else None

    @property
    def active_requests(self) -> int:
        """Requests that are not answered yet."""
        return len(self.handler.active)

    def progressing(self) -> bool:
        """Whether the engine makes progress or is idle."""
        return self.vlm.state().progressing

    def close(self) -> None:
        """Stop the model and all threads."""
        self.handler.workers.close()
        self.vlm.close()

    def application(self) -> ASGIApp:
        """The ASGI application."""
        paths = self._routes()
        routes = [Route(path, _Methods(methods)) for path, methods in paths.items()]
        router = Router(routes, redirect_slashes=False, default=_nothing_else(tuple(paths)))
        access = self.access
        public = is_public if self.web else lambda _: False
        secured = SecurityMiddleware(router, access.hosts, access.origins, access.keys, lambda: self.stopping, public)
        return AccessLogMiddleware(secured, self.metrics.responded)

    def _routes(self) -> dict[str, Mapping[str, Endpoint]]:
        names, limits, calls = self.names, self.limits, self.vlm.family.tool_calls
        chat = self._json("chat", lambda body: ChatAdapter.read(body, names, limits, calls, self.tasks))
        completions = self._json("completions", lambda body: CompletionAdapter.read(body, names, limits))
        responses = self._json("responses", lambda body: ResponsesAdapter.read(body, names, limits, calls))
        messages = self._json("anthropic", lambda body: AnthropicAdapter.read(body, names, limits, calls))
        ollama_chat = self._json("ollama", lambda body: OllamaAdapter.read("message", body, names, limits, calls))
        ollama_prompt = self._json("ollama", lambda body: OllamaAdapter.read("response", body, names, limits, calls))
        openapi = functools.lru_cache(MAX_DOCUMENTS)(
            lambda base: document(limits, names[0], self.access.keys is not None, base)
        )
        return {
            "/v1/chat/completions": {"POST": chat},
            "/v1/completions": {"POST": completions},
            "/v1/responses": {"POST": responses},
            "/v1/messages": {"POST": messages},
            "/v1/messages/count_tokens": {"POST": self._computed("anthropic", self._count_message_tokens)},
            "/v1/tokenize": {"POST": self._computed("tokenize", self._count_tokens)},
            "/v1/tasks": {"GET": _value(lambda _: task_list(self.tasks))},
            "/v1/models": {"GET": _value(self._models)},
            "/v1/models/{name:path}": {"GET": _value(self._model)},
            "/api/v1/chat": {"POST": self._form("answer")},
            "/api/v1/analyze": {"POST": self._form("text")},
            "/api/chat": {"POST": ollama_chat},
            "/api/generate": {"POST": ollama_prompt},
            "/api/tags": {"GET": _value(lambda _: ollama_models.tags(self._served_model()))},
            "/api/ps": {"GET": _value(lambda _: ollama_models.running(self._served_model()))},
            "/api/show": {"POST": self._about_model(ollama_models.show)},
            "/api/pull": {"POST": self._about_model(lambda _: {"status": "success"})},
            "/api/version": {"GET": _value(lambda _: ollama_models.version())},
            **{f"/api/{name}": {method: _refused(name)} for name, method in ollama_models.REFUSED.items()},
            "/": {"GET": self._start},
            "/health": {"GET": self._health},
            "/health/live": {"GET": _value(lambda _: {"status": "ok"})},
            "/health/ready": {"GET": self._ready},
            "/metrics": {"GET": self._metrics},
            "/openapi.json": {"GET": _value(lambda scope: openapi(_base_url(scope)))},
            **ImageEndpoints(self.handler).routes(),
            **docs_routes(),
            **(self.web.routes(self._start) if self.web else {}),
        }

    def _json(self, endpoint: str, read: Callable[[bytes], ResponseAdapter]) -> Endpoint:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            _check_json(scope)
            await self.handler.respond(scope, receive, send, endpoint, read)

        return answer

    def _form(self, field: Literal["answer", "text"]) -> Endpoint:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            content_type = dict(scope["headers"]).get(b"content-type", b"")

            def read(body: bytes) -> ResponseAdapter:
                return forms.FormAdapter(forms.read_form(content_type, body, self.limits), field)

            try:
                await self.handler.respond(scope, receive, send, "form", read)
            except ApiError as error:
                raise forms.unsupported_media_is_415(error) from error

        return answer

    def _computed(self, endpoint: str, compute: Callable[[bytes, str, Cancellation], bytes]) -> Endpoint:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            _check_json(scope)
            owner = owner_of(scope)
            await self.handler.compute(scope, receive, send, endpoint, lambda body, stop: compute(body, owner, stop))

        return answer

    def _count_tokens(self, body: bytes, owner: str, cancellation: Cancellation) -> bytes:
        """The answer of ``/v1/tokenize``. Called in a thread."""
        request = tokenize.parse(strict_json.parse(body, self.limits), self.names, self.limits)
        if isinstance(request, str):
            count, image_tokens = len(self.vlm.template.encode_text(request)), 0
        else:
            prompt = self._build_prompt(request, owner, cancellation)
            count, image_tokens = len(prompt.prompt.ids), sum(grid.tokens for _, grid in prompt.images)
        return msgspec.json.encode(tokenize.token_count(count, image_tokens, self.vlm.context))

    def _count_message_tokens(self, body: bytes, owner: str, cancellation: Cancellation) -> bytes:
        """The answer of ``/v1/messages/count_tokens``. Called in a thread."""
        request = parse_count(strict_json.parse(body, self.limits), self.names, self.limits)
        return msgspec.json.encode({"input_tokens": len(self._build_prompt(request, owner, cancellation).prompt.ids)})

    def _build_prompt(self, request: GenerationRequest, owner: str, cancellation: Cancellation) -> BuiltPrompt:
        request = self.handler.images.resolve(request, owner)
        check_images(request.images, self.limits)
        return self.vlm.build_prompt(self.handler.workers.decoder.turns(request, cancellation), request.tools)

    def _models(self, scope: Scope) -> Json:
        if protocol_of(scope["path"], scope["headers"]) == "anthropic":
            return anthropic_models.model_list(self.names, self._started, self._context)
        return {"object": "list", "data": [self._model_object(name) for name in self.names]}

    def _model(self, scope: Scope) -> Json:
        name = scope["path_params"]["name"]
        check_model(name, self.names)
        if protocol_of(scope["path"], scope["headers"]) == "anthropic":
            return anthropic_models.model_object(name, self._started, self._context)
        return self._model_object(name)

    def _model_object(self, name: str) -> Json:
        context = {"context": self.vlm.context, "max_model_len": self.vlm.context} if self.loaded else {}
        return {"id": name, "object": "model", "created": self._started, "owned_by": "vlrun", **context}

    def _served_model(self) -> ServedModel:
        vlm = self.vlm
        return ServedModel(vlm.manifest, vlm.fingerprint, self.names, self._started, self._context, vlm.thinks)

    def _about_model(self, describe: Callable[[ServedModel], Json]) -> Endpoint:
        """An endpoint about the model that a request of Ollama's clients names."""

        def described(body: bytes) -> bytes:
            parse_name(strict_json.parse(body, self.limits), self.names)
            return msgspec.json.encode(describe(self._served_model()))

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            _check_json(scope)
            await self.handler.reply(scope, receive, send, "ollama", described)

        return answer

    async def _start(self, scope: Scope, _receive: Receive, send: Send) -> None:
        model = None if self.access.keys and self.web else self.names[0]  # this path needs no key
        body, headers = page(model, _base_url(scope), wants_html(scope))
        await send_whole(send, body, headers=headers)

    async def _health(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        status = self._status()
        body = msgspec.json.encode({"status": "ok" if status == "ready" else status})
        await send_whole(send, body, 200 if status == "ready" else 503)

    async def _ready(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        status, admission = self._status(), self.handler.admission
        readiness = {
            "ready": status == "ready",
            "status": status,
            "model": self.names[0],
            "device": self.vlm.device if self.loaded else "",
            "queue": {"running": admission.running, "waiting": admission.waiting, "limit": self.limits.queue},
            "notes": self.vlm.notes if self.loaded else [],
            "version": vlrun.__version__,
            "context": self._context,
            "memory": {"resident_bytes": resident_bytes(), "available_bytes": available_memory()},
            "thinks": self._thinks,
            "inputs": MEDIA_TYPES,
            "limits": self.limits.of_inputs,
        }
        await send_whole(send, msgspec.json.encode(readiness), 200 if readiness["ready"] else 503)

    def _status(self) -> str:
        if self.stopping:
            return "stopping"
        if not self.loaded:
            return "loading"
        return "ready" if self.progressing() else "stuck"

    async def _metrics(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send_whole(send, self.metrics.text(), headers={b"content-type": CONTENT_TYPE})

    def _engine_state(self) -> EngineState | None:
        return self.vlm.state() if self.loaded else None

    def _counts(self) -> dict[str, float]:
        return {
            "requests_waiting": self.handler.admission.waiting,
            "answers_running": self.handler.admission.running,
            "body_bytes": self.handler.bodies.held,
            "stored_image_bytes": self.handler.images.held,
            "connections": self.connections(),
        }


class _Methods:
    """An endpoint's methods. HEAD is GET, of which uvicorn drops the body."""

    def __init__(self, methods: Mapping[str, Endpoint]) -> None:
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in self._methods:
            allowed = ", ".join(self._methods)
            raise ApiError(405, f"this path takes {allowed}", "method_not_allowed", headers=(("allow", allowed),))
        await self._methods[method](scope, receive, send)


def _base_url(scope: Scope) -> str:
    """The URL that the request was sent to, whose host is one of ours."""
    host: bytes = dict(scope["headers"])[b"host"]
    return f"http://{host.decode('latin-1').lower()}"


def _nothing_else(paths: Sequence[str]) -> Endpoint:
    """The endpoint of all other paths than ``paths``."""

    async def answer(scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ApiError(404, f"there is nothing at this path: {hint(scope['path'], paths) or ALL_PATHS}", "not_found")

    return answer


def _check_json(scope: Scope) -> None:
    """Browsers post forms to other origins without a preflight, so forms are read by form endpoints only."""
    if dict(scope["headers"]).get(b"content-type", b"").lower().startswith(b"multipart/"):
        raise ApiError(415, "the Content-Type must be application/json", "invalid_type")


def _value(make: Callable[[Scope], object]) -> Endpoint:
    """An endpoint that answers with a value as JSON."""

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        await send_whole(send, msgspec.json.encode(make(scope)))

    return answer


def _refused(name: str) -> Endpoint:
    """An endpoint of Ollama that is not there."""

    async def answer(_scope: Scope, _receive: Receive, _send: Send) -> None:
        ollama_models.refuse(name)

    return answer
