"""Errors as the clients of each protocol expect them, each with its status: those of OpenAI's API as
``{"error": {"message", "type", "param", "code"}}``, those of Ollama's and Anthropic's in their own format.

Messages are our own: never a path, an address, or text of a library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vlrun.errors import (
    ContextLengthExceeded,
    DeviceError,
    EngineClosed,
    InvalidAnswer,
    MediaError,
    MissingExtra,
    ModelError,
    OptionError,
    SchemaError,
    ToolError,
    UnsupportedMedia,
    VlrunError,
)

MAX_MESSAGE = 500
"""Characters of a message that may quote a request."""
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Types of Anthropic's errors by status; others are ``invalid_request_error`` or ``api_error``."""

ANTHROPIC_HEADER = b"anthropic-version"
"""All of Anthropic's clients send it, and no others. A key in ``x-api-key`` says nothing: other clients send it too."""
OPENAI_PATHS = ("/v1/chat/", "/v1/completions", "/v1/responses")
"""Beginnings of paths that no other API has: proxies forward the header to them."""

Protocol: TypeAlias = Literal["openai", "ollama", "anthropic"]
"""The API whose format an answer has."""

CLIENT_ERRORS: dict[type[VlrunError], tuple[str | None, str]] = {
    ContextLengthExceeded: ("messages", "context_length_exceeded"),
    MissingExtra: ("messages", "missing_extra"),
    UnsupportedMedia: ("messages", "unsupported_image"),
    MediaError: ("messages", "invalid_image"),
    SchemaError: ("response_format", "invalid_schema"),
    ToolError: ("tools", "invalid_schema"),
    OptionError: (None, "invalid_value"),
}
"""Field and code of errors that the client caused, subclasses first."""


def protocol_of(path: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> Protocol:
    """The API that a request belongs to. The forms at ``/api/v1`` are not Ollama's. On paths that several APIs have,
    such as ``/v1/models``, the client's header decides.
    """
    if path.startswith("/api/") and not path.startswith("/api/v1/"):
        return "ollama"
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return "anthropic"
    of_client = any(name == ANTHROPIC_HEADER for name, _ in headers)
    return "anthropic" if of_client and not path.startswith(OPENAI_PATHS) else "openai"


@dataclass(eq=False)  # not frozen: contextlib sets the traceback of exceptions
class ApiError(Exception):
    """An error for the client. ``param``: the path of the field (``messages[0].content``); ``retry_after``: seconds,
    None if a retry would not help. Raise a new instance each time: an exception keeps the frames that it went through.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    retry_after: int | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def body(self, protocol: Protocol = "openai") -> bytes:
        """The JSON body."""
        if protocol == "ollama":
            return json.dumps({"error": self.message}).encode()
        if protocol == "anthropic":
            kind = ANTHROPIC_TYPES.get(self.status, "api_error" if self.status >= 500 else "invalid_request_error")
            return json.dumps({"type": "error", "error": {"type": kind, "message": self.message}}).encode()
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()

    def all_headers(self, protocol: Protocol = "openai") -> list[tuple[str, str]]:
        """The headers, content-length included. OpenAI's and Anthropic's clients obey ``x-should-retry``."""
        retry = [] if self.retry_after is None else [("retry-after", str(self.retry_after))]
        should_retry = ("x-should-retry", "true" if retry else "false")
        length = ("content-length", str(len(self.body(protocol))))
        return [("content-type", "application/json"), length, should_retry, *retry, *self.headers]


def bad_request(message: str, param: str | None = None, code: str | None = "invalid_value") -> ApiError:
    """A 400."""
    return ApiError(400, message, code, param)


def api_error(error: VlrunError) -> ApiError:
    """The error for the client. Failures of the machine or the model have fixed messages."""
    for kind, (param, code) in CLIENT_ERRORS.items():
        if isinstance(error, kind):
            return bad_request(error.message[:MAX_MESSAGE], param, code)
    if isinstance(error, InvalidAnswer):
        return ApiError(422, error.message[:MAX_MESSAGE], "invalid_answer")
    if isinstance(error, EngineClosed):
        return ApiError(503, "the service is stopping", "stopping", retry_after=5)
    if isinstance(error, DeviceError | ModelError):
        return ApiError(500, "the model failed on this request", "model_failed")
    return ApiError(500, "the service failed on this request", "internal_error")
