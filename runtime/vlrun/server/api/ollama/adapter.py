"""``POST /api/chat`` and ``/api/generate``: formats answers as one object, or as one line of JSON each (NDJSON)."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import ClassVar, Literal, TypeAlias

import msgspec

from vlrun.models.family import ToolCallFormat
from vlrun.server.api import strict_json
from vlrun.server.api.answers import Json, OutputSplitter, extension, finish_reason, logprobs, rfc3339, split_output
from vlrun.server.api.ollama.parsing import ParsedRequest, parse_chat, parse_prompt
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import AnswerChunk, ResponseAdapter
from vlrun.server.limits import ServerLimits
from vlrun.types.answer import Answer, Progress, TokenLogprob
from vlrun.types.turn import ToolCall

NANOSECONDS = 1_000_000_000
Kind: TypeAlias = Literal["message", "response"]


class OllamaAdapter(ResponseAdapter):
    """Formats the answer of one request.

    Args:
        parsed: The request.
        tool_calls: How the model writes tool calls.
        kind: Whether the answer is a ``message`` of a chat or the ``response`` to a prompt.
    """

    renamed_params: ClassVar = {"response_format": "format"}
    content_type: ClassVar[bytes] = b"application/x-ndjson"

    def __init__(self, parsed: ParsedRequest, tool_calls: ToolCallFormat, kind: Kind) -> None:
        super().__init__(parsed.request)
        self._parsed = parsed
        self._tool_calls = tool_calls if parsed.request.uses_tools else None
        self._splitter = OutputSplitter(self._tool_calls)
        self._kind = kind
        self._secret = secrets.token_hex(12)
        self._calls = 0
        self._logprobs: list[TokenLogprob] = []

    @classmethod
    def read(
        cls, kind: Kind, body: bytes, names: Sequence[str], limits: ServerLimits, tool_calls: ToolCallFormat
    ) -> OllamaAdapter:
        """The adapter for a request's body. Raises ApiError."""
        parse = parse_chat if kind == "message" else parse_prompt
        return cls(parse(strict_json.parse(body, limits), names, limits), tool_calls, kind)

    def whole(self, answers: Sequence[Answer]) -> bytes:
        """The answer; without messages, that the model is loaded, or unloaded, which it never is."""
        if not answers:
            reason = "unload" if self._parsed.unloads else "load"
            return msgspec.json.encode({**self._part(), "done": True, "done_reason": reason})
        (answer,) = answers
        text, calls = split_output(answer.text, self._tool_calls)
        part = self._part(text or "", answer.reasoning, calls, answer.logprobs)
        return msgspec.json.encode({**part, **_end(answer)})

    def waiting(self, progress: Progress | None) -> bytes:
        """NDJSON has no comments, and clients parse empty lines: a line without text keeps the stream open."""
        return b"" if progress else self._line(self._part())

    def events(self, chunk: AnswerChunk) -> list[bytes]:
        """A line for each piece of text and each call; the last one has the counts and durations."""
        piece = chunk.chunk
        self._logprobs.extend(piece.logprobs)
        lines = [self._line(self._part(reasoning=piece.reasoning))] if piece.reasoning else []
        for part in self._splitter.push(piece.text, last=piece.answer is not None):
            if isinstance(part, str):
                tokens, self._logprobs = self._logprobs, []
                lines.append(self._line(self._part(part, tokens=tokens)))
            else:
                lines.append(self._line(self._part(calls=[part])))
        if piece.answer:
            lines.append(self._line({**self._part(tokens=self._logprobs), **_end(piece.answer)}))
        return lines

    def failed(self, error: ApiError) -> list[bytes]:
        """The error as the last line."""
        return [error.body("ollama") + b"\n"]

    def _part(
        self,
        text: str = "",
        reasoning: str = "",
        calls: Sequence[ToolCall] = (),
        tokens: Sequence[TokenLogprob] = (),
    ) -> Json:
        """A part of the answer, or all of it."""
        created = rfc3339(time.time())
        content: Json = {"content": text} if self._kind == "message" else {"response": text}
        if reasoning:
            content["thinking"] = reasoning
        if calls:
            content["tool_calls"] = [self._call(call) for call in calls]
        if self._kind == "message":
            content = {"message": {"role": "assistant", **content}}
        scores = {"logprobs": logprobs(tokens)} if tokens else {}
        return {"model": self._parsed.model, "created_at": created, **content, "done": False, **scores}

    def _call(self, call: ToolCall) -> Json:
        index, self._calls = self._calls, self._calls + 1
        function = {"index": index, "name": call.name, "arguments": json.loads(call.arguments)}
        return {"id": f"call_{self._secret}_{index}", "function": function}

    @staticmethod
    def _line(value: Json) -> bytes:
        return msgspec.json.encode(value) + b"\n"


def _end(answer: Answer) -> Json:
    """The last fields of an answer. Durations are in nanoseconds; clients divide by them, so none is 0."""
    times, usage = answer.timings, answer.usage
    return {
        "done": True,
        "done_reason": finish_reason(answer),
        "total_duration": _nanoseconds(times.load + times.total),
        "load_duration": _nanoseconds(times.load),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": _nanoseconds(times.vision + times.prefill),
        "eval_count": usage.completion_tokens,
        "eval_duration": _nanoseconds(times.total - times.ttft),
        **extension(answer),
    }


def _nanoseconds(seconds: float) -> int:
    return max(1, round(seconds * NANOSECONDS))
