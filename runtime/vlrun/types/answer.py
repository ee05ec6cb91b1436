"""Answers and their streamed chunks, with usage, timings and progress."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from vlrun.types.mark import Mark
from vlrun.types.time_span import TimeSpan
from vlrun.types.turn import ToolCall

if TYPE_CHECKING:
    from vlrun.heatmap.heat_map import Heat

FinishReason: TypeAlias = Literal["stop", "length", "repetition"]
"""``stop``: end of answer or stop string; ``length``: ``max_tokens`` or the context was reached; ``repetition``: the
answer kept repeating itself.
"""

Phase: TypeAlias = Literal["vision", "prefill", "votes"]


@dataclass(frozen=True)
class Usage:
    """Token counts of one answer.

    Attributes:
        prompt_tokens: Text and visual tokens.
        image_tokens: Visual tokens.
        cached_tokens: Prompt tokens found in the prefix cache.
        completion_tokens: Tokens of the answer and its reasoning.
        forward_passes: Runs of the decoder, with prefill.
        reasoning_tokens: Tokens of the reasoning alone.
    """

    prompt_tokens: int
    image_tokens: int
    cached_tokens: int
    completion_tokens: int
    forward_passes: int
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Timings:
    """Seconds of one answer, without the time that the caller takes between chunks.

    Attributes:
        load: Loading the model. With ``vlrun.load(wait=False)`` images are encoded meanwhile.
        preprocess: Before the request was submitted.
        queue: Until the request was scheduled.
        vision: Encoding the images; other requests may run at the same time.
        prefill: Computing the prompt; other requests may run at the same time.
        ttft: Time to first token: the sum of the above without ``load``.
        tpot: Time per output token after the first; None for a single token.
        total: From the question to the last token.
        schema: Compiling schema and tools, a part of ``preprocess``; the first in a process prepares the vocabulary.
    """

    load: float
    preprocess: float
    queue: float
    vision: float
    prefill: float
    ttft: float
    tpot: float | None
    total: float
    schema: float = 0.0


@dataclass(frozen=True)
class TokenLogprob:
    """The log probability of a token, before penalties, temperature and schema.

    Attributes:
        token: The token as text.
        logprob: Natural logarithm.
        raw: The token's bytes, which may be part of a character.
        top: The most likely tokens at this position.
    """

    token: str
    logprob: float
    raw: bytes
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Answer:
    """A complete answer.

    Attributes:
        text: The text with tool calls, without the reasoning.
        notes: Messages for the user about the images, such as a reduced size.
        value: The parsed ``text`` if a ``schema`` was given and the answer is complete.
        marks: Boxes and points in pixels of the original image; empty unless the question was about a single image.
        times: Moments and parts of the last video that the text names, in seconds.
        tool_calls: Functions that the model wants to call.
        heat: The attention of each token to the image, if requested.
        tokens: Token ids of reasoning and text; empty after a stop string.
        logprobs: Log probabilities of the tokens of ``text``, if requested.
        reasoning: What a Thinking model wrote before its answer.
        opening: All that was generated before ``text``: the reasoning with its control tokens.
        stop: The stop string that ended the answer, which is not in ``text``.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    notes: tuple[str, ...] = ()
    value: object = None
    marks: tuple[Mark, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    heat: Heat | None = None
    tokens: tuple[int, ...] = field(default=(), repr=False)
    logprobs: tuple[TokenLogprob, ...] = field(default=(), repr=False)
    reasoning: str = ""
    opening: str = field(default="", repr=False)
    stop: str | None = None
    times: tuple[TimeSpan, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """A part of a streamed answer.

    Attributes:
        text: The next text; may be empty.
        notes: The notes about the images, in the first chunk only, before the model runs.
        answer: The complete answer, in the last chunk only.
        progress: Progress before the first token, if requested.
        logprobs: Log probabilities of the tokens since the previous chunk, if requested.
        reasoning: The next text of the reasoning; may be empty.
    """

    text: str
    answer: Answer | None = None
    progress: Progress | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """Progress before the first token: ``done`` of ``total`` visual tokens (``vision``) or prompt tokens (``prefill``);
    of a task with several answers, ``done`` of ``total`` answers (``votes``).
    """

    phase: Phase
    done: int
    total: int


def last_of(chunks: Iterable[Chunk]) -> Answer:
    """Return the complete answer from the last chunk."""
    return [chunk.answer for chunk in chunks if chunk.answer][-1]
