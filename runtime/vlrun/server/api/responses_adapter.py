"""``POST /v1/responses``: a request's body becomes a job, and what is answered its words. Knows no HTTP."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from vlrun.server.api import strict_json
from vlrun.server.api.responses_parser import read_responses
from vlrun.server.api.responses_response import Responding
from vlrun.server.api.responses_stream import Event, ResponseStream, name_of
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import AnswerChunk, GenerationRequest
from vlrun.server.limits import ServerLimits
from vlrun.server.sse import event
from vlrun.types.answer import Answer


class ResponsesAdapter:
    """The words of one response."""

    fields: Mapping[str, str] = {"messages": "input", "response_format": "text.format"}

    def __init__(self, job: GenerationRequest, responding: Responding) -> None:
        self.job = job
        self._responding = responding
        self._stream = ResponseStream(responding)

    def whole(self, answers: Sequence[Answer]) -> bytes:
        """The response."""
        return msgspec.json.encode(self._responding.whole(answers[0]))

    def begin(self) -> list[bytes]:
        """The response as it begins."""
        return _events(self._stream.begin())

    def pieces(self, pieces: Sequence[AnswerChunk]) -> list[bytes]:
        """Events of what has come; the last piece brings all that is left to say."""
        return _events(event for piece in pieces for event in self._stream.take(piece.chunk))

    def end(self, answers: Sequence[Answer]) -> list[bytes]:  # noqa: ARG002 - all is said
        """Nothing: the last piece said it."""
        return []

    def failed(self, error: ApiError) -> list[bytes]:
        """The error, and the response as failed."""
        return _events(self._stream.fail(error))


def read(body: bytes, names: Sequence[str], limits: ServerLimits) -> ResponsesAdapter:
    """The voice of a request. Raises ApiError."""
    job, request = read_responses(strict_json.parse(body, limits), names, limits)
    return ResponsesAdapter(job, Responding(f"resp_{secrets.token_hex(12)}", int(time.time()), names[0], request))


def _events(events: Iterable[Event]) -> list[bytes]:
    return [event(msgspec.json.encode(told), name_of(told)) for told in events]
