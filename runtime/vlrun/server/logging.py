"""The service's log: one line per event on stderr, which untrusted input can neither forge nor flood.

A line has ``name=value`` pairs. A value that is not plain is written as a JSON string, so that no line break or control
character of a client reaches a terminal.
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
"""Characters of a value."""
MAX_PROMPT = 2000
"""Characters of a prompt or an answer, if they are logged."""

IMAGE_ID = re.compile("(?<=^/v1/images/)[^/]+")
"""In a path. It is a hash of the image, by which it could be recognized after it was forgotten."""

_PLAIN = re.compile(r"[\w./:@%+-]+", re.ASCII)
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""syslog(3) priorities, which sd-daemon(3) reads at the beginning of a line."""


def log_event(event: str, level: int = logging.INFO, *, max_length: int = MAX_VALUE, **values: object) -> None:
    """Log one event with its values; None is left out."""
    if LOGGER.isEnabledFor(level):
        pairs = (f"{name}={quoted(value, max_length)}" for name, value in values.items() if value is not None)
        LOGGER.log(level, "%s", " ".join([event, *pairs]))


def quoted(value: object, max_length: int = MAX_VALUE) -> str:
    """A value for a log line, cut and escaped."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if len(text) > max_length:
        text = f"{text[:max_length]}... ({len(text)} characters)"
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


class _LineFormatter(logging.Formatter):
    """One line for every record. ``journal``: write the priority, and no time, which systemd adds."""

    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.name != LOGGER.name:  # text of a library
            message = f"{record.name} message={quoted(message)}"
        if record.exc_info and record.exc_info[0] is not None:
            message += f" error={record.exc_info[0].__name__}"
        if self._journal:
            return f"<{_PRIORITY.get(record.levelno, 6)}>{message}"
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
        return f"{moment} {record.levelname.lower()} {message}"


def set_up(journal: bool, stream: TextIO | None = None) -> None:
    """Send the log to stderr; libraries log warnings and errors only."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_LineFormatter(journal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    LOGGER.setLevel(logging.INFO)


def record_error(scope: Scope, code: str | None, param: str | None) -> None:
    """Remember the error that a request is answered with, for its log line."""
    scope.setdefault("state", {})["error"] = (code, param)


class AccessLogMiddleware:
    """ASGI middleware that logs each request at its end. ``on_end`` gets its status, 0 if none was sent."""

    def __init__(self, app: ASGIApp, on_end: Callable[[int], None]) -> None:
        self._app = app
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._on_end(status)
            client, state = scope.get("client"), scope.get("state", {})
            code, param = state.get("error", (None, None))
            log_event(
                "request",
                method=scope["method"],
                path=IMAGE_ID.sub("...", scope["path"]),
                status=status or "none",
                seconds=time.monotonic() - started,
                client=client[0] if client else None,
                key=state.get("key"),
                code=code,
                param=param,
            )
