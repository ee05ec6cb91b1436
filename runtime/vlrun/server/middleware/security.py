"""Checks every request before routing (Host, Origin, API key, content type), and completes every answer's headers.

It judges ``scope["path"]``, never a URL built from Host, which the client writes. Starlette's TrustedHostMiddleware
ignores the port and its CORSMiddleware lets foreign origins through, only without CORS headers; both answer plain text.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlrun.errors import AnswerCancelled, is_panic
from vlrun.server.api_errors import ApiError, bad_request, protocol_of
from vlrun.server.logging import record_error
from vlrun.server.middleware.allowed_names import HOST, allowed_hosts
from vlrun.server.middleware.api_keys import ApiKeys

logger = logging.getLogger("vlrun.server")

PUBLIC_PATHS = frozenset({"/health", "/health/live"})
"""Need no key: load balancers and containers probe them, and they show nothing but the state."""
MEDIA_TYPES = frozenset({"application/json", "multipart/form-data"})
"""A foreign page can post ``text/plain`` without a preflight, but not JSON; the form that it posts has an Origin."""
DEFAULT_TYPES = frozenset({"application/x-www-form-urlencoded", "text/plain"})
"""What curl, urllib and fetch send if they are told no type. Ollama reads any body as JSON, so clients of its API may
send these, or no type at all, unless they are browsers.
"""
BROWSER_HEADERS = (b"origin", b"sec-fetch-site")
"""Browsers send Origin with every POST (WHATWG Fetch, 3.2), whatever the page; programs send neither."""
LINGER_SECONDS = 2.0
"""For which a client may go on sending an unread body: closed at once, it would get a reset instead of the answer."""
HARDENING = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
OWN_FRAMES = b"frame-ancestors 'none'"
"""Of the policy of a page, unless the operator allows other pages to show it."""

INVALID_HOST = bad_request("a request has one Host header: a name or an address, and a port", code="invalid_host")
FOREIGN_HOST = ApiError(403, "this Host is not allowed: see the option --allow-host of the service", "host_not_allowed")
FOREIGN_ORIGIN = ApiError(
    403, "this Origin is not allowed: see the option --allow-origin of the service", "origin_not_allowed"
)
NO_KEY = ApiError(
    401,
    "a valid API key is needed: Authorization: Bearer KEY, or x-api-key: KEY",
    "invalid_api_key",
    headers=(("www-authenticate", "Bearer"),),
)
FOREIGN_TYPE = ApiError(415, "the Content-Type must be application/json or multipart/form-data, UTF-8", "invalid_type")
STOPPING = ApiError(503, "the service is stopping", "stopping", retry_after=5, headers=(("connection", "close"),))
FAILED = ApiError(500, "the service failed on this request", "internal_error")

_HEADER_NAME = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True)
class SecurityMiddleware:
    """ASGI middleware around the whole app.

    Args:
        app: The wrapped application.
        hosts: Allowed names besides the address that was connected to; with a port if it is not the service's own.
        origins: Web pages that may call, such as ``https://kiosk.example``.
        keys: API keys; None if no key is needed.
        stopping: Whether new work is refused.
        public: Whether a path can be read without a key, besides ``PUBLIC_PATHS``.
    """

    app: ASGIApp
    hosts: frozenset[str]
    origins: frozenset[str]
    keys: ApiKeys | None
    stopping: Callable[[], bool]
    public: Callable[[str], bool] = lambda _path: False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = _header(scope, b"origin")
        exchange = _Exchange(scope, receive, send, origin if origin in self.origins else None)
        error = self._check_caller(scope)
        preflight = scope["method"] == "OPTIONS" and _values(scope, b"access-control-request-method")
        if not error and preflight and origin in self.origins:
            await exchange.allow_preflight()
        elif error := error or self._check_request(scope):
            await exchange.send_error(error)
        else:
            await exchange.run(self.app)

    def _check_caller(self, scope: Scope) -> ApiError | None:
        """Check Host and Origin."""
        allowed = allowed_hosts(scope.get("server"), self.hosts)
        host = _header(scope, b"host").lower()
        if not HOST.fullmatch(host):
            return INVALID_HOST
        if host not in allowed:
            return FOREIGN_HOST
        if not _values(scope, b"origin"):  # a page's image or script, which shows by loading that the service is there
            embedded = _header(scope, b"sec-fetch-mode") != "navigate"
            return FOREIGN_ORIGIN if embedded and _header(scope, b"sec-fetch-site") == "cross-site" else None
        origins = self.origins | {f"http://{name}" for name in allowed}
        return None if _header(scope, b"origin") in origins else FOREIGN_ORIGIN

    def _is_public(self, scope: Scope) -> bool:
        path, method = scope["path"], scope["method"]
        return path in PUBLIC_PATHS or (method in ("GET", "HEAD") and self.public(path))

    def _check_request(self, scope: Scope) -> ApiError | None:
        """Check the key and the content type, and that the service is not stopping."""
        if self.keys and not self._is_public(scope):
            scheme, _, key = _header(scope, b"authorization").partition(" ")
            bearer = key.strip() if scheme.lower() == "bearer" else ""
            presented = (bearer, _header(scope, b"x-api-key"))  # clients may send a placeholder in one of them
            name = next(filter(None, map(self.keys.name_of, presented)), None)
            if name is None:
                return NO_KEY
            scope.setdefault("state", {})["key"] = name
        if scope["method"] != "POST":
            return None
        if self.stopping():
            return STOPPING
        # Without a body, the endpoint says what is missing.
        return None if not _has_body(scope) or _is_readable(scope) else FOREIGN_TYPE


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _header(scope: Scope, name: bytes) -> str:
    """The header's value; empty if it is missing or given twice."""
    values = _values(scope, name)
    return values[0] if len(values) == 1 else ""


def _has_body(scope: Scope) -> bool:
    return bool(_values(scope, b"transfer-encoding")) or _values(scope, b"content-length") not in ([], ["0"])


def _is_readable(scope: Scope) -> bool:
    """Whether the body has a type that is read here."""
    browser = any(_values(scope, name) for name in BROWSER_HEADERS)
    lenient = protocol_of(scope["path"]) == "ollama" and not browser
    types = _values(scope, b"content-type")
    if len(types) != 1:
        return lenient and not types
    kind, *parameters = (part.strip().lower() for part in types[0].split(";"))
    pairs = [parameter.partition("=")[::2] for parameter in parameters]
    known = kind in MEDIA_TYPES or (lenient and kind in DEFAULT_TYPES)
    return known and all(value.strip('"') == "utf-8" for name, value in pairs if name == "charset")


class _Exchange:
    """A request and its answer: whether it has begun, and whether the body was read to its end."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, origin: str | None) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._origin = origin
        self._begun = False
        self._unread = _has_body(scope)

    async def run(self, app: ASGIApp) -> None:
        """Run the app. Its exception becomes an answer or, if one has begun, a closed connection: servers close it when
        an app returns too early.
        """
        try:
            await app(self._scope, self.receive, self.send)
            error = FAILED
        except AnswerCancelled:  # the client has left
            return
        except asyncio.CancelledError:
            if not self._begun:
                await self.send_error(STOPPING)
            raise
        except BaseException as reason:  # neither the client nor the log gets the text of an exception
            if not isinstance(reason, Exception) and not is_panic(reason):
                raise
            error = reason if isinstance(reason, ApiError) else FAILED
            if error is FAILED or self._begun:
                logger.error("a request failed: %s at %s", type(reason).__name__, _location(reason))
        if not self._begun:
            await self.send_error(error)

    async def send_error(self, error: ApiError) -> None:
        """Answer with an error."""
        protocol = protocol_of(self._scope["path"], self._scope["headers"])
        record_error(self._scope, error.code, error.param)
        headers = [(name.encode(), value.encode()) for name, value in error.all_headers(protocol)]
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": error.body(protocol)})

    async def allow_preflight(self) -> None:
        """Tell a browser that a page of an allowed origin may send any header: every client has headers of its own, and
        those that the service does not know change nothing.
        """
        asked = ",".join(_values(self._scope, b"access-control-request-headers")).lower().split(",")
        names = dict.fromkeys(["authorization", "content-type", *map(str.strip, asked)])
        headers = [
            (b"access-control-allow-methods", b"GET, POST, DELETE"),
            (b"access-control-allow-headers", ", ".join(filter(_HEADER_NAME.fullmatch, names)).encode()),
            (b"access-control-max-age", b"600"),
        ]
        if _header(self._scope, b"access-control-request-private-network") == "true":  # a page of the public network
            headers.append((b"access-control-allow-private-network", b"true"))
        await self.send({"type": "http.response.start", "status": 204, "headers": headers})
        await self.send({"type": "http.response.body", "body": b""})

    async def receive(self) -> Message:
        """The server's ``receive``, which notices the end of the body."""
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """The server's ``send``, with our headers. Before the answer ends, an unread body is awaited."""
        if message["type"] == "http.response.start":
            self._begun = True
            message = {**message, "headers": self._complete(list(message.get("headers", [])))}
        elif self._unread and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while self._unread:
                        await self.receive()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    def _complete(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        ours = list(HARDENING)
        if self._unread:
            ours.append((b"connection", b"close"))
        if self._origin is None:
            ours.append((b"cross-origin-resource-policy", b"same-origin"))
        else:
            ours += [
                (b"access-control-allow-origin", self._origin.encode("latin-1")),
                (b"access-control-expose-headers", b"retry-after, x-should-retry"),
                (b"vary", b"Origin"),
            ]
        names = {name.lower() for name, _ in given} - {b"vary"}
        policy = b"".join(value for name, value in given if name == b"content-security-policy")
        if b"frame-ancestors" in policy and OWN_FRAMES not in policy:
            names.add(b"x-frame-options")  # which cannot name origins
        return given + [(name, value) for name, value in ours if name not in names]


def _location(error: BaseException) -> str:
    """File and line where it was raised."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
