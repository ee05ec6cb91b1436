"""What the answers of several endpoints have in common: tokens' likelihoods, timings, what else there is to say.

Types, and how they are made of an ``Answer``. Knows no endpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vlrun.models.registry import DEFAULT_FAMILY
from vlrun.prompt.tool_calls import ToolCallParser
from vlrun.types import answer as made
from vlrun.types.answer import FinishReason, Phase, Progress
from vlrun.types.turn import ToolCall


class TopLogprob(Struct, frozen=True):
    """A token that could have stood there. ``bytes``: of its text, which may be part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct, frozen=True):
    """A token, the logarithm of its probability by the model alone, and the likeliest at its place."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class Timings(Struct, frozen=True):
    """Seconds of one answer: before the queue, in it, for its images and its prompt, to its first token, per further
    token (null if there was only one), and in all. Of several answers those of the slowest.
    """

    preprocess: float
    queue: float
    vision: float
    prefill: float
    ttft: float
    tpot: float | None
    total: float


class Told(Struct, frozen=True):
    """How far the work before the first token is: ``done`` of ``total`` tokens, visual ones or the prompt's."""

    phase: Phase
    done: int
    total: int
    percent: int


class Extension(Struct, frozen=True, omit_defaults=True):
    """What OpenAI's answers have no place for: why an answer that went round in a circle ended (``repetition``), what
    was left out or changed of the images, and how far the work is.
    """

    finish_reason: FinishReason | None = None
    notes: list[str] = []
    progress: Told | None = None


def timings(answers: Sequence[made.Answer]) -> Timings:
    """Of the slowest answer."""
    slowest = max((answer.timings for answer in answers), key=lambda times: times.total)
    return Timings(
        preprocess=slowest.preprocess,
        queue=slowest.queue,
        vision=slowest.vision,
        prefill=slowest.prefill,
        ttft=slowest.ttft,
        tpot=slowest.tpot,
        total=slowest.total,
    )


def extension(answer: made.Answer) -> Extension | None:
    """What else there is to say about an answer, None if nothing."""
    reason = answer.finish_reason if answer.finish_reason == "repetition" else None
    return Extension(reason, list(answer.notes)) if reason or answer.notes else None


def told(progress: Progress) -> Extension:
    """How far the work is."""
    percent = 100 * progress.done // max(progress.total, 1)
    return Extension(progress=Told(progress.phase, progress.done, progress.total, percent))


def said(answer: made.Answer, calling: bool) -> tuple[str | None, tuple[ToolCall, ...]]:
    """The text without the calls, None if the answer is calls alone; and the calls. ``calling``: whether there are
    tools: without, whatever looks like a call is text.
    """
    if not calling:
        return answer.text, ()
    splitter = ToolCallParser(DEFAULT_FAMILY.tool_calls)
    pieces = [*splitter.push(answer.text), *splitter.flush()]
    calls = tuple(piece for piece in pieces if isinstance(piece, ToolCall))
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    return (text if text or not calls else None), calls


def logprobs(tokens: Sequence[made.TokenLogprob]) -> list[TokenLogprob]:
    """Tokens' likelihoods as OpenAI writes them."""
    return [
        TokenLogprob(
            token.token,
            token.logprob,
            list(token.raw),
            [TopLogprob(other.token, other.logprob, list(other.raw)) for other in token.top],
        )
        for token in tokens
    ]
