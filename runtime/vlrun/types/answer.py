"""Answers and the chunks that they stream in, with usage, timings and progress."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from vlrun.types.mark import Mark
from vlrun.types.turn import ToolCall

if TYPE_CHECKING:
    from vlrun.heatmap.heat_map import Heat

FinishReason: TypeAlias = Literal["stop", "length", "repetition"]
"""``stop``: the model ended its answer, or a stop string occurred; ``length``: ``max_tokens`` or the context was
reached; ``repetition``: the answer repeated itself without end.
"""

Phase: TypeAlias = Literal["vision", "prefill"]


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer.

    Attributes:
        prompt_tokens: Tokens of the prompt, visual ones included.
        image_tokens: Visual tokens of the prompt.
        cached_tokens: Tokens of the prompt that were in the prefix cache.
        completion_tokens: Tokens of the answer.
        forward_passes: How often the decoder ran for the answer, prefill included.
    """

    prompt_tokens: int
    image_tokens: int
    cached_tokens: int
    completion_tokens: int
    forward_passes: int


@dataclass(frozen=True)
class Timings:
    """Seconds of one answer. Time in which the caller does not read the stream is not included.

    Attributes:
        load: Loading the model, with the images that were encoded meanwhile (``vlrun.load(wait=False)``).
        preprocess: Before the request was submitted.
        queue: Until the request was scheduled.
        vision: Encoding its images, beside other requests.
        prefill: Running its prompt, beside other requests.
        ttft: Time to first token, from the question on; includes all of the above but ``load``.
        tpot: Time per output token after the first; None for a single token.
        total: From the question to the last token.
    """

    load: float
    preprocess: float
    queue: float
    vision: float
    prefill: float
    ttft: float
    tpot: float | None
    total: float


@dataclass(frozen=True)
class TokenLogprob:
    """The log probability of a token by the model alone, before penalties, temperature and schema.

    Attributes:
        token: The token as text.
        logprob: Natural logarithm of its probability.
        raw: Its bytes, which may be part of a character.
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
        text: The text, tool calls included.
        finish_reason: Why it ended.
        usage: Tokens.
        timings: Seconds.
        notes: Messages for the user about the images, such as a reduced size.
        value: The content of ``text`` if a ``schema`` was given and the answer is complete.
        marks: Boxes and points in the answer, in pixels of the original image; empty unless the question was about a
            single image.
        tool_calls: Functions that the model wants to call.
        heat: The attention of each token to the image, if requested.
        tokens: Token ids of ``text``; empty if a stop string cut them.
        logprobs: Log probabilities of the tokens, if requested.
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


@dataclass(frozen=True)
class Chunk:
    """A part of an answer while it streams.

    Attributes:
        text: The next text; may be empty.
        answer: The complete answer, in the last chunk only.
        progress: Progress before the first token, if requested.
        logprobs: Log probabilities of the tokens since the previous chunk, if requested.
    """

    text: str
    answer: Answer | None = None
    progress: Progress | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Progress:
    """Progress of the work before the first token: ``done`` of ``total`` tokens, visual ones or the prompt's."""

    phase: Phase
    done: int
    total: int


def last_of(chunks: Iterable[Chunk]) -> Answer:
    """Return the complete answer from the last chunk."""
    return [chunk.answer for chunk in chunks if chunk.answer][-1]
