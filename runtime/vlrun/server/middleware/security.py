"""Who may ask: Host, Origin, key and content type, judged before routing; and what stands in every answer's head.

Knows ASGI scopes and headers; knows no route but ``/health/live``, no body and no socket. It judges ``scope["path"]``,
never a URL put together from Host, which the client writes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlrun.errors import AnswerCancelled
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.middleware.api_keys import ApiKeys

logger = logging.getLogger("vlrun.server")

OPEN_PATH = "/health/live"
"""The one path that needs no key."""
MEDIA_TYPES = frozenset({"application/json", "multipart/form-data"})
"""A foreign page can post ``text/plain`` without a preflight, but not JSON; a form it posts has an Origin."""
LINGER_SECONDS = 2.0
"""That a client may go on sending a body that nobody reads: closed at once it would get a reset, not the answer."""
PREFLIGHT_SECONDS = 600
"""That a browser may remember a preflight's answer."""
HARDENING = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
SAME_ORIGIN = (b"cross-origin-resource-policy", b"same-origin")
CLOSE = (b"connection", b"close")

NO_HOST = bad_request("a request has one Host header: a name or an address, and a port", code="invalid_host")
FOREIGN_HOST = ApiError(403, "this service does not answer to that Host", "host_not_allowed")
FOREIGN_ORIGIN = ApiError(403, "this service does not answer to pages of that origin", "origin_not_allowed")
NO_KEY = ApiError(
    401,
    "a valid API key is needed: Authorization: Bearer KEY",
    "invalid_api_key",
    headers=(("www-authenticate", "Bearer"),),
)
FOREIGN_TYPE = ApiError(415, "the Content-Type must be application/json or multipart/form-data, UTF-8", "invalid_type")
STOPPING = ApiError(503, "the service is stopping", "stopping", retry_after=5, headers=(("connection", "close"),))
FAILED = ApiError(500, "the service failed on this request", "internal_error")

_HOST = re.compile(r"(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_DEFAULT_PORT = re.compile(r":(?:80|443)$")
_TOLERATED = re.compile(r"x-stainless-[a-z0-9-]{1,40}")
_HAS_PORT = re.compile(r":[0-9]+$")


@dataclass(frozen=True)
class SecurityMiddleware:
    """ASGI middleware around the whole app.

    ``hosts``: names, besides the address that was connected to, under which the service is asked for; with a port if it
    is not the service's own (a proxy's). ``origins``: pages that may ask from a browser, such as
    ``https://kiosk.example``. ``keys``: None for a service without. ``stopping``: true once no new work is taken.
    """

    app: ASGIApp
    hosts: frozenset[str]
    origins: frozenset[str]
    keys: ApiKeys | None
    stopping: Callable[[], bool]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = _one(scope, b"origin")
        page = origin if origin in self.origins else None
        exchange = _Exchange(scope, receive, send, page)
        fault = self._judge_caller(scope)
        if fault is None and page and scope["method"] == "OPTIONS" and _values(scope, b"access-control-request-method"):
            await exchange.allow_preflight()
            return
        fault = fault or self._judge_request(scope)
        if fault:
            await exchange.answer(fault)
        else:
            await exchange.run(self.app)

    def _judge_caller(self, scope: Scope) -> ApiError | None:
        """Host and Origin."""
        allowed = allowed_hosts(scope.get("server"), self.hosts)
        host = _one(scope, b"host").lower()
        if not _HOST.fullmatch(host):
            return NO_HOST
        if host not in allowed:
            return FOREIGN_HOST
        if not _values(scope, b"origin"):  # a page's image or script: it could see at least that it loads
            embedded = _one(scope, b"sec-fetch-site") == "cross-site" and _one(scope, b"sec-fetch-mode") != "navigate"
            return FOREIGN_ORIGIN if embedded else None
        origins = self.origins | {f"http://{host}" for host in allowed}
        return None if _one(scope, b"origin") in origins else FOREIGN_ORIGIN

    def _judge_request(self, scope: Scope) -> ApiError | None:
        """Key, whether it is too late, and content type."""
        if self.keys and scope["path"] != OPEN_PATH:
            name = self.keys.name_of(_bearer(scope))
            if name is None:
                return NO_KEY
            scope.setdefault("state", {})["key"] = name
        if scope["method"] != "POST":
            return None
        if self.stopping():
            return STOPPING
        if not _has_body(scope):  # nothing that could be taken for another thing: the route says what is missing
            return None
        return None if _is_readable(_one(scope, b"content-type")) else FOREIGN_TYPE


def allowed_hosts(server: tuple[str, int | None] | None, hosts: frozenset[str]) -> frozenset[str]:
    """Values of Host that the service answers to, in lower case: exact, port and all.

    Its own address (``server``: where the client connected to, or the path of a socket and None) is one of them, since
    nobody can make another name of an address; ``localhost`` is, if that address is loopback's.
    """
    address, port = server or ("", None)
    names = {host.lower() for host in hosts} | ({"localhost"} if port is None else _own_names(address))
    exact = {name if port is None or _HAS_PORT.search(name) else f"{name}:{port}" for name in names}
    return frozenset(exact | {_DEFAULT_PORT.sub("", name) for name in exact})


def _own_names(address: str) -> set[str]:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return set()
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip  # a socket for both families
    literal = f"[{ip}]" if ip.version == 6 else str(ip)
    return {literal, "localhost"} if ip.is_loopback else {literal}


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _one(scope: Scope, name: bytes) -> str:
    """The header's value; empty if it is missing or stands there twice."""
    values = _values(scope, name)
    return values[0] if len(values) == 1 else ""


def _allowed_headers(scope: Scope) -> bytes:
    """Of those that a page wants to send: what we read, and what OpenAI's client adds about itself."""
    asked = (name.strip().lower() for name in ",".join(_values(scope, b"access-control-request-headers")).split(","))
    return ", ".join(["authorization, content-type", *(name for name in asked if _TOLERATED.fullmatch(name))]).encode()


def _has_body(scope: Scope) -> bool:
    lengths = _values(scope, b"content-length")
    return bool(_values(scope, b"transfer-encoding") or (lengths and lengths != ["0"]))


def _bearer(scope: Scope) -> str:
    """The key that was presented; empty, which no key is, for none."""
    scheme, _, key = _one(scope, b"authorization").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _is_readable(content_type: str) -> bool:
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    pairs = [parameter.partition("=")[::2] for parameter in parameters]
    return kind in MEDIA_TYPES and all(value.strip('"') == "utf-8" for name, value in pairs if name == "charset")


class _Exchange:
    """One request and its answer: whether it has begun, and whether the body was read to its end."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, page: str | None) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._page = page
        self._begun = False
        self._unread = _has_body(scope)

    async def run(self, app: ASGIApp) -> None:
        """Let the app answer. What escapes it becomes an answer or, where that has begun, a closed connection, which is
        what servers do when an app returns too early.
        """
        try:
            await app(self._scope, self.receive, self.send)
        except AnswerCancelled:  # the client has left, and hears nothing
            return
        except asyncio.CancelledError:
            if not self._begun:
                await self.answer(STOPPING)
            raise
        except Exception as error:  # noqa: BLE001  # a stranger gets no word of it, and the log no word of the stranger
            fault = error if isinstance(error, ApiError) else FAILED
            if fault is FAILED or self._begun:
                logger.error("a request failed: %s at %s", type(error).__name__, _place(error))
            if not self._begun:
                await self.answer(fault)
        else:
            if not self._begun:
                await self.answer(FAILED)

    async def answer(self, fault: ApiError) -> None:
        """Say what is wrong."""
        body = fault.body()
        headers = (*fault.all_headers(), ("content-length", str(len(body))))
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        await self.send({"type": "http.response.start", "status": fault.status, "headers": encoded})
        await self.send({"type": "http.response.body", "body": body})

    async def allow_preflight(self) -> None:
        """Tell a browser what a page of ``origins`` may send."""
        headers = [
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", _allowed_headers(self._scope)),
            (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
        ]
        await self.send({"type": "http.response.start", "status": 204, "headers": headers})
        await self.send({"type": "http.response.body", "body": b""})

    async def receive(self) -> Message:
        """The server's, watched for the body's end."""
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """The server's, with our headers. An unread body has to be waited out before the answer ends."""
        if message["type"] == "http.response.start":
            self._begun = True
            message = {**message, "headers": self._headers(list(message.get("headers", [])))}
        elif self._unread and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while self._unread:
                        await self.receive()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    def _headers(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        names = {name.lower() for name, _ in given}
        ours = [*HARDENING]
        if self._page is None:
            ours.append(SAME_ORIGIN)
        if self._unread:
            ours.append(CLOSE)
        added = [(name, value) for name, value in ours if name not in names]
        if self._page is not None:
            added += [(b"access-control-allow-origin", self._page.encode("latin-1")), (b"vary", b"Origin")]
        return given + added


def _place(error: BaseException) -> str:
    """File and line where it was raised."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
