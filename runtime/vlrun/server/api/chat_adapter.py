"""``POST /v1/chat/completions``: a request's body becomes a job, and what is answered its words. Knows no HTTP."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from vlrun.server.api import strict_json
from vlrun.server.api.chat_parser import read_chat
from vlrun.server.api.chat_response import ChatCompletionChunk, Chatting
from vlrun.server.api.chat_stream import ChatStream
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import AnswerChunk, GenerationRequest
from vlrun.server.limits import ServerLimits
from vlrun.server.sse import DONE, event
from vlrun.types.answer import Answer


class ChatAdapter:
    """The words of one chat completion."""

    fields: Mapping[str, str] = {}

    def __init__(self, job: GenerationRequest, model: str) -> None:
        self.job = job
        calling = bool(job.tools) and job.choice.mode != "none"
        self._chatting = Chatting(f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), model, calling)
        self._stream = ChatStream(self._chatting, job.n, job.include_usage, job.include_progress)

    def whole(self, answers: Sequence[Answer]) -> bytes:
        """The completion."""
        return msgspec.json.encode(self._chatting.whole(answers))

    def begin(self) -> list[bytes]:
        """The first chunk of each choice."""
        return _events(self._stream.begin())

    def pieces(self, pieces: Sequence[AnswerChunk]) -> list[bytes]:
        """Chunks of what has come."""
        return _events(chunk for piece in pieces for chunk in self._stream.take(piece.index, piece.chunk))

    def end(self, answers: Sequence[Answer]) -> list[bytes]:
        """The usage, if it is wanted, and OpenAI's end mark."""
        return [*_events(self._stream.end(answers)), DONE]

    def failed(self, error: ApiError) -> list[bytes]:
        """The error in place of a chunk, as OpenAI's clients know it."""
        return [event(error.body())]


def read(body: bytes, names: Sequence[str], limits: ServerLimits) -> ChatAdapter:
    """The voice of a request. Raises ApiError."""
    return ChatAdapter(read_chat(strict_json.parse(body, limits), names, limits), names[0])


def _events(chunks: Iterable[ChatCompletionChunk]) -> list[bytes]:
    return [event(msgspec.json.encode(chunk)) for chunk in chunks]
