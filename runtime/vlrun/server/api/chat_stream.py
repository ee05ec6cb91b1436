"""A chat completion as a stream: which chunks an answer's pieces become.

Keeps what may still become a call, and the likelihoods of its tokens. Knows neither HTTP nor events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType

from vlrun.models.registry import DEFAULT_FAMILY
from vlrun.prompt.tool_calls import ToolCallParser
from vlrun.server.api.chat_response import (
    ChatCompletionChunk,
    Chatting,
    ChatUsage,
    ChunkChoice,
    Delta,
    NamedCall,
    ToolCallDelta,
    chat_usage,
    finish_reason,
    likely,
)
from vlrun.server.api.common_response import Extension, Timings, extension, timings, told
from vlrun.types import answer as made
from vlrun.types.turn import ToolCall


@dataclass
class _Speaker:
    """What one of the choices has said so far."""

    splitter: ToolCallParser = field(default_factory=lambda: ToolCallParser(DEFAULT_FAMILY.tool_calls))
    calls: int = 0
    waiting: list[made.TokenLogprob] = field(default_factory=list)


class ChatStream:
    """The chunks of one request: ``begin``, then ``take`` whatever comes, at last ``end``.

    ``include_usage``: the last chunk tells it, all others say null; ``include_progress``: chunks without choices tell
    how far vision and prefill are.
    """

    def __init__(
        self, chatting: Chatting, n: int = 1, include_usage: bool = False, include_progress: bool = False
    ) -> None:
        self._chatting = chatting
        self._speakers = [_Speaker() for _ in range(n)]
        self._include_usage = include_usage
        self._include_progress = include_progress

    def begin(self) -> list[ChatCompletionChunk]:
        """The first chunk of each choice."""
        choices = range(len(self._speakers))
        return [self._delta(index, Delta(role="assistant", content="")) for index in choices]

    def take(self, index: int, chunk: made.Chunk) -> list[ChatCompletionChunk]:
        """What a piece of a choice's answer becomes; its last piece also tells why it ended and what it took."""
        if chunk.progress:
            return [self._chunk(vlrun=told(chunk.progress))] if self._include_progress else []
        speaker = self._speakers[index]
        speaker.waiting.extend(chunk.logprobs)
        pieces: list[str | ToolCall] = [chunk.text]
        if self._chatting.calling:
            pieces = speaker.splitter.push(chunk.text)
            pieces += speaker.splitter.flush() if chunk.answer else []
        chunks = [self._piece(index, speaker, piece) for piece in pieces if piece]
        return [*chunks, self._last(index, speaker, chunk.answer)] if chunk.answer else chunks

    def end(self, answers: Sequence[made.Answer]) -> list[ChatCompletionChunk]:
        """The very last chunk, if usage is to be told."""
        return [self._chunk(usage=chat_usage(answers))] if self._include_usage else []

    def _piece(self, index: int, speaker: _Speaker, piece: str | ToolCall) -> ChatCompletionChunk:
        if isinstance(piece, str):
            tokens, speaker.waiting = speaker.waiting, []
            return self._delta(index, Delta(content=piece), tokens)
        call = ToolCallDelta(
            index=speaker.calls,
            id=self._chatting.call_id(index, speaker.calls),
            function=NamedCall(piece.name, piece.arguments),
        )
        speaker.calls += 1
        return self._delta(index, Delta(tool_calls=[call]))

    def _last(self, index: int, speaker: _Speaker, answer: made.Answer) -> ChatCompletionChunk:
        choice = ChunkChoice(
            index=index,
            delta=Delta(),
            logprobs=likely(speaker.waiting),
            finish_reason="tool_calls" if speaker.calls else finish_reason(answer),
            vlrun=extension(answer) or UNSET,
        )
        return self._chunk(choice, times=timings([answer]))

    def _delta(self, index: int, delta: Delta, tokens: Sequence[made.TokenLogprob] = ()) -> ChatCompletionChunk:
        return self._chunk(ChunkChoice(index=index, delta=delta, logprobs=likely(tokens)))

    def _chunk(
        self,
        *choices: ChunkChoice,
        usage: ChatUsage | None = None,
        times: Timings | UnsetType = UNSET,
        vlrun: Extension | UnsetType = UNSET,
    ) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=self._chatting.completion_id,
            created=self._chatting.created,
            model=self._chatting.model,
            choices=list(choices),
            usage=usage if self._include_usage else UNSET,
            timings=times,
            vlrun=vlrun,
        )
