"""``POST /v1/messages``: formats answers as a message or its events."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

from vlrun.models.family import ToolCallFormat
from vlrun.server.api import strict_json
from vlrun.server.api.answers import Json, OutputSplitter, extension, split_output
from vlrun.server.api.anthropic.parsing import ParsedRequest, parse
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import AnswerChunk, ResponseAdapter
from vlrun.server.limits import ServerLimits
from vlrun.server.sse import event
from vlrun.types.answer import Answer, Progress, Usage
from vlrun.types.turn import ToolCall


class AnthropicAdapter(ResponseAdapter):
    """Formats the answer of one request, and keeps the state of its stream."""

    renamed_params: ClassVar[Mapping[str, str]] = {"response_format": "output_config.format.schema"}

    def __init__(self, parsed: ParsedRequest, model: str, tool_calls: ToolCallFormat) -> None:
        super().__init__(parsed.request)
        self._shows_reasoning = parsed.shows_reasoning
        self._model = model
        self._tool_calls = tool_calls if parsed.request.uses_tools else None
        self._splitter = OutputSplitter(self._tool_calls)
        self._secret = secrets.token_hex(12)
        self._begun = False
        self._blocks = 0
        self._calls = 0
        self._open: str | None = None  # the type of the block that text is added to

    @classmethod
    def read(
        cls, body: bytes, names: Sequence[str], limits: ServerLimits, tool_calls: ToolCallFormat
    ) -> AnthropicAdapter:
        """The adapter for a request's body. Raises ApiError."""
        return cls(parse(strict_json.parse(body, limits), names, limits), names[0], tool_calls)

    def whole(self, answers: Sequence[Answer]) -> bytes:
        """The message."""
        (answer,) = answers
        text, calls = split_output(answer.text, self._tool_calls)
        blocks: list[Json] = []
        if answer.reasoning and self._shows_reasoning:
            blocks.append({"type": "thinking", "thinking": answer.reasoning, "signature": ""})
        if text or not calls:
            blocks.append({"type": "text", "text": text or "", "citations": None})
        blocks += [self._call(call) for call in calls]
        message = {**self._message(_usage(answer.usage)), "content": blocks, **_end(answer, calls=bool(calls))}
        return msgspec.json.encode({**message, **extension(answer)})

    def events(self, chunk: AnswerChunk) -> list[bytes]:
        """The message without content, then deltas of the reasoning and the text; each call is a block of its own."""
        piece = chunk.chunk
        events = self._begin(piece.progress) if piece.progress and not self._begun else []
        if piece.reasoning and self._shows_reasoning:
            events += self._delta("thinking", "thinking_delta", piece.reasoning)
        for part in self._splitter.push(piece.text, last=piece.answer is not None):
            events += self._delta("text", "text_delta", part) if isinstance(part, str) else self._call_events(part)
        if piece.answer:
            if not self._blocks or self._open == "thinking":  # clients read the first text
                events += self._open_block("text", "")
            events += self._close()
            usage = _usage(piece.answer.usage)
            delta = {**_end(piece.answer, calls=self._calls > 0), "container": None}
            events.append(self._event("message_delta", delta=delta, usage=usage, **extension(piece.answer)))
        return events

    def end(self, answers: Sequence[Answer]) -> list[bytes]:  # noqa: ARG002
        """The end mark."""
        return [self._event("message_stop")]

    def failed(self, error: ApiError) -> list[bytes]:
        """The error as an event."""
        return [event(error.body("anthropic"), "error")]

    def _begin(self, progress: Progress) -> list[bytes]:
        """The message without content, once the prefill begins: its first progress is what was in the cache."""
        if progress.phase != "prefill":
            return []
        self._begun = True
        usage = Usage(progress.total, 0, progress.done, 0, 0)
        return [self._event("message_start", message=self._message(_usage(usage))), self._event("ping")]

    def _message(self, usage: Json) -> Json:
        """The message before its content."""
        return {
            "id": f"msg_{self._secret}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }

    def _call(self, call: ToolCall) -> Json:
        number, self._calls = self._calls, self._calls + 1
        arguments = json.loads(call.arguments)
        return {"type": "tool_use", "id": f"toolu_{self._secret}_{number}", "name": call.name, "input": arguments}

    def _call_events(self, call: ToolCall) -> list[bytes]:
        block = self._call(call)
        opened = self._start({**block, "input": {}})
        delta = {"type": "input_json_delta", "partial_json": call.arguments}
        return [*opened, self._event("content_block_delta", index=self._blocks - 1, delta=delta), *self._close()]

    def _delta(self, kind: str, delta: str, text: str) -> list[bytes]:
        opened = [] if self._open == kind else self._open_block(kind, "")
        added = {"type": delta, kind: text}
        return [*opened, self._event("content_block_delta", index=self._blocks - 1, delta=added)]

    def _open_block(self, kind: str, text: str) -> list[bytes]:
        more = {"signature": ""} if kind == "thinking" else {"citations": None}
        return self._start({"type": kind, kind: text, **more})

    def _start(self, block: Json) -> list[bytes]:
        """End the open block, if there is one, and begin this one."""
        closed = self._close()
        self._open, index, self._blocks = str(block["type"]), self._blocks, self._blocks + 1
        return [*closed, self._event("content_block_start", index=index, content_block=block)]

    def _close(self) -> list[bytes]:
        if self._open is None:
            return []
        signed = []
        if self._open == "thinking":
            delta = {"type": "signature_delta", "signature": ""}
            signed = [self._event("content_block_delta", index=self._blocks - 1, delta=delta)]
        self._open = None
        return [*signed, self._event("content_block_stop", index=self._blocks - 1)]

    @staticmethod
    def _event(kind: str, **fields: object) -> bytes:
        return event(msgspec.json.encode({"type": kind, **fields}), kind)


def _end(answer: Answer, *, calls: bool) -> Json:
    """Why the answer ended."""
    if calls:
        reason = "tool_use"
    elif answer.stop is not None:
        reason = "stop_sequence"
    else:
        reason = "end_turn" if answer.finish_reason == "stop" else "max_tokens"
    return {"stop_reason": reason, "stop_sequence": answer.stop}


def _usage(usage: Usage) -> Json:
    """Anthropic counts the tokens that were in the cache apart from the others."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }
