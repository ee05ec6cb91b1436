"""The security middleware as a plain ASGI app: cancellation, disconnects, other scopes."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.runtime.server.middleware.raw_server import StubApp
from vlrun.server.middleware.security import SecurityMiddleware

NO_NAMES: frozenset[str] = frozenset()


def test_cancellation_is_not_swallowed() -> None:
    """The server waits for cancelled tasks when it stops."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None: ...

    scope = {"type": "http", "method": "GET", "path": "/stopped", "headers": [(b"host", b"localhost")], "state": {}}
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(SecurityMiddleware(StubApp(), NO_NAMES, NO_NAMES, None, lambda: False)(scope, receive, send))


def test_a_disconnected_client_gets_no_response() -> None:
    """Otherwise log and metrics would have a 500 for each disconnect."""
    app = StubApp()
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/cancelled", "headers": [(b"host", b"localhost")], "state": {}}
    asyncio.run(SecurityMiddleware(app, NO_NAMES, NO_NAMES, None, lambda: False)(scope, receive, send))
    assert app.calls[-1] == "/cancelled"
    assert sent == []


def test_lifespan_passes_and_websockets_are_closed() -> None:
    scope_types: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope_types.append(scope["type"])

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def both() -> None:
        middleware = SecurityMiddleware(app, NO_NAMES, NO_NAMES, None, lambda: False)
        await middleware({"type": "lifespan"}, receive, send)
        await middleware({"type": "websocket"}, receive, send)

    asyncio.run(both())
    assert (scope_types, [message["type"] for message in sent]) == (["lifespan"], ["websocket.close"])
