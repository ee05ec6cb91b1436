"""What one request wants of the model, whichever endpoint it came through, and the pieces that it gets.

Plain values: texts, images as their files' bytes (they are decoded when it is their turn, so that a queue holds no
pixels), options. Knows neither HTTP nor the engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from vlrun.types.answer import Chunk
from vlrun.types.options import Detail, Options
from vlrun.types.turn import Role, Tool, ToolCall, ToolChoice


@dataclass(frozen=True)
class EncodedImage:
    """An image's file as it came. ``param``: the request's field that it came in, for errors."""

    encoded: bytes
    detail: Detail
    param: str


Part: TypeAlias = str | EncodedImage


@dataclass(frozen=True)
class RequestMessage:
    """One turn of the conversation."""

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class GenerationRequest:
    """A conversation that waits for ``n`` answers.

    ``options`` says how to answer; its ``detail`` is not used, each image has its own. ``stream``: tokens as they
    come; with ``include_usage`` a last chunk tells what it cost, with ``include_progress`` chunks without choices tell
    how far vision and prefill are.
    """

    turns: tuple[RequestMessage, ...]
    options: Options = field(default_factory=Options)
    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = field(default_factory=ToolChoice)
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    include_progress: bool = False

    @property
    def images(self) -> tuple[EncodedImage, ...]:
        """All images, in order."""
        return tuple(part for turn in self.turns for part in turn.parts if isinstance(part, EncodedImage))


@dataclass(frozen=True)
class AnswerChunk:
    """A chunk of one of a job's answers."""

    index: int
    chunk: Chunk
