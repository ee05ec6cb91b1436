"""Answers and the chunks that they stream in, with usage, timings and progress."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from vlrun.types.mark import Mark
from vlrun.types.turn import ToolCall

if TYPE_CHECKING:
    from vlrun.heatmap.heat_map import Heat


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer. ``image_tokens`` and ``cached_tokens`` (which did not have to run again) are part of
    ``prompt_tokens``; ``passes``: how often the decoder ran for it.
    """

    prompt_tokens: int
    image_tokens: int
    cached_tokens: int
    completion_tokens: int
    passes: int


@dataclass(frozen=True)
class Timings:
    """Seconds. ``load`` belongs to the model, the rest to this answer; waiting for the caller is not counted, nor for
    the model to be loaded: what became of images meanwhile (``vlrun.load(wait=False)``) counts as loading.

    ``queue``: until there was room; ``vision`` and ``prefill``: each as long as it took beside other answers; ``ttft``:
    time to first token, from the question, with all of these; ``tpot``: time per further output token, None if there
    was only one.
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
    """How likely the model found a token, before penalties, temperature and schema: the logarithm of its probability.
    ``raw``: its bytes, which may be part of a character; ``token``: these as text; ``top``: the likeliest at its place.
    """

    token: str
    logprob: float
    raw: bytes
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Answer:
    """A whole answer. ``notes``: what was left out or changed of the images on the way in, in words.

    ``value``: what the text says, if a ``schema`` was given and the answer is complete. ``marks``: boxes and points
    that it names, in pixels of the image as it was given, if the question was about a single one. ``tool_calls``:
    functions that the model wants called. ``heat``: where it looked, if asked for. ``tokens``: of the text, if it is
    all that the model said. ``logprobs``: of its tokens, if asked for.
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
    """A piece of text as it comes, with the ``logprobs`` of the tokens that came since the last one, if asked for.
    Before the first, chunks without text tell the ``progress``, if asked for. The last chunk carries the whole
    ``answer``; its own text may be empty.
    """

    text: str
    answer: Answer | None = None
    progress: Progress | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


def last_of(chunks: Iterable[Chunk]) -> Answer:
    """The whole answer at the end of its chunks."""
    return [chunk.answer for chunk in chunks if chunk.answer][-1]


FinishReason: TypeAlias = Literal["stop", "length", "repetition"]
"""``stop``: the model ended its answer or a stop string came; ``length``: ``max_tokens`` or the context was used up;
``repetition``: the answer went round in a circle.
"""


Phase: TypeAlias = Literal["vision", "prefill"]


@dataclass(frozen=True)
class Progress:
    """How far the work before the first token is: ``done`` of ``total`` tokens, visual ones or the prompt's."""

    phase: Phase
    done: int
    total: int
