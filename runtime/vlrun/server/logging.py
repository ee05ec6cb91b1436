"""The service's log: one line an event, on stderr, that nobody can forge or flood.

``name=value`` pairs; a value that is not plain is written as a JSON string, so that no line break, colour or other
control character of a stranger's reaches a terminal or begins a line. Knows no request.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from typing import TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGGER = logging.getLogger("vlrun.server")
MAX_VALUE = 200
"""Characters of one value."""
MAX_ASKED = 2000
"""Characters of a prompt or an answer, where they are logged."""

_PLAIN = re.compile(r"[\w./:@%+-]+", re.ASCII)
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Of syslog(3), as sd-daemon(3) reads them at the beginning of a line."""


def note(event: str, level: int = logging.INFO, *, longest: int = MAX_VALUE, **values: object) -> None:
    """Log one event."""
    if LOGGER.isEnabledFor(level):
        pairs = (f"{name}={shown(value, longest)}" for name, value in values.items() if value is not None)
        LOGGER.log(level, "%s", " ".join([event, *pairs]))


def shown(value: object, longest: int = MAX_VALUE) -> str:
    """A value as it may stand in a line."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if len(text) > longest:
        text = f"{text[:longest]}... ({len(text)} characters)"
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


class _Line(logging.Formatter):
    """One line for a record, whatever is in it. ``journal``: systemd adds the time and reads the priority."""

    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.name != LOGGER.name:  # a library's words
            message = f"{record.name} message={shown(message)}"
        if record.exc_info and record.exc_info[0] is not None:
            message += f" error={record.exc_info[0].__name__}"
        if self._journal:
            return f"<{_PRIORITY.get(record.levelno, 6)}>{message}"
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
        return f"{moment} {record.levelname.lower()} {message}"


def set_up(journal: bool, stream: TextIO | None = None) -> None:
    """Send the log to stderr; libraries are heard from warnings on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Line(journal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    LOGGER.setLevel(logging.INFO)


class AccessLogMiddleware:
    """ASGI middleware: one line for each request, when it is over. ``ended`` hears its status, 0 if none was sent."""

    def __init__(self, app: ASGIApp, ended: Callable[[int], None]) -> None:
        self._app = app
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            self._ended(status)
            client = scope.get("client")
            note(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status or "none",
                seconds=time.monotonic() - began,
                client=client[0] if client else None,
                key=scope.get("state", {}).get("key"),
            )
