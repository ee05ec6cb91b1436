"""Errors as OpenAI's clients expect them: ``{"error": {"message", "type", "param", "code"}}``, each with its status.

Messages are ours alone, word for word: never a path, an address, or the words of a library. Knows no request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from vlrun.errors import (
    ContextLengthExceeded,
    DeviceError,
    EngineClosed,
    MediaError,
    ModelError,
    OptionError,
    SchemaError,
    ToolError,
    UnsupportedMedia,
    VlrunError,
)

MAX_MESSAGE = 500
"""Characters of a message that may quote a request."""
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
"""Types by status; of the others those from 500 on are ``server_error``, the rest ``invalid_request_error``."""


@dataclass(eq=False)  # not frozen: contextlib sets the traceback of what passes through it
class ApiError(Exception):
    """What a client is told. ``param``: the field that is wrong, as a path (``messages[0].content``); ``retry_after``:
    seconds after which it may try again, None if that would not help. Each one raised is made anew: an exception keeps
    the frames of all that it went through.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    retry_after: int | None = None
    headers: tuple[tuple[str, str], ...] = field(default=())

    @property
    def kind(self) -> str:
        """OpenAI's ``type``."""
        return TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    def body(self) -> bytes:
        """The JSON of the answer."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()

    def all_headers(self) -> tuple[tuple[str, str], ...]:
        """Headers of the answer beside its length. OpenAI's clients try again by themselves where they are told to."""
        again = "false" if self.retry_after is None else "true"
        retry = () if self.retry_after is None else (("retry-after", str(self.retry_after)),)
        return (("content-type", "application/json"), ("x-should-retry", again), *retry, *self.headers)


def bad_request(message: str, param: str | None = None, code: str | None = "invalid_value") -> ApiError:
    """A 400."""
    return ApiError(400, message, code, param)


def api_error(error: VlrunError) -> ApiError:
    """What a client is told of an error of ours. What the machine or the model did is said in fixed words."""
    for kind, (param, code) in _BAD_REQUESTS.items():
        if isinstance(error, kind):
            return bad_request(error.message[:MAX_MESSAGE], param, code)
    match error:
        case EngineClosed():
            return ApiError(503, "the service is stopping", "stopping", retry_after=5)
        case DeviceError() | ModelError():
            return ApiError(500, "the model failed on this request", "model_failed")
    return ApiError(500, "the service failed on this request", "internal_error")


_BAD_REQUESTS: dict[type[VlrunError], tuple[str | None, str]] = {
    ContextLengthExceeded: ("messages", "context_length_exceeded"),
    UnsupportedMedia: ("messages", "unsupported_image"),
    MediaError: ("messages", "invalid_image"),
    SchemaError: ("response_format", "invalid_schema"),
    ToolError: ("tools", "invalid_schema"),
    OptionError: (None, "invalid_value"),
}
"""Field and code of what the client caused, the narrower kinds first."""
