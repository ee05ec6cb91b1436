"""The answers of the small endpoints: models, counting tokens, health, the tutorials' forms; and errors.

Types, and how they are made. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from vlrun.server.api.chat_response import ChatUsage, FinishReason, chat_usage, finish_reason
from vlrun.server.api.common_response import Extension, Timings, extension, timings
from vlrun.types import answer as made

Status: TypeAlias = Literal["ready", "loading", "stuck", "stopping"]


class Model(Struct, frozen=True, kw_only=True):
    """The model that is served. ``created``: when the service began, in seconds since 1970; ``context``: tokens that a
    prompt and its answer may have together (an extension).
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "vlrun"
    context: int | UnsetType = UNSET


class Models(Struct, frozen=True, kw_only=True):
    """All names under which the model is served."""

    object: Literal["list"] = "list"
    data: list[Model]


class TokenCount(Struct, frozen=True, kw_only=True):
    """Tokens of a prompt: ``image_tokens`` and ``text_tokens`` make up ``count``. ``remaining``: what the context
    leaves for the answer, 0 if the prompt is too long.
    """

    count: int
    image_tokens: int
    text_tokens: int
    context: int
    remaining: int


class Alive(Struct, frozen=True):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Queue(Struct, frozen=True, kw_only=True):
    """Requests that are being answered and that wait, and how many may wait."""

    running: int
    waiting: int
    limit: int


class Readiness(Struct, frozen=True, kw_only=True):
    """Whether the model answers: it is loaded, and gets on with its work or has none. ``notes``: what there is to say
    about the device.
    """

    ready: bool
    status: Status
    model: str
    device: str
    queue: Queue
    notes: list[str] = []


class FormChatAnswer(Struct, frozen=True, kw_only=True):
    """The answer of ``/api/v1/chat``."""

    answer: str
    finish_reason: FinishReason
    usage: ChatUsage
    timings: Timings
    vlrun: Extension | UnsetType = UNSET


class FormAnalyzeAnswer(Struct, frozen=True, kw_only=True):
    """The answer of ``/api/v1/analyze``."""

    text: str
    finish_reason: FinishReason
    usage: ChatUsage
    timings: Timings
    vlrun: Extension | UnsetType = UNSET


class ErrorDetails(Struct, frozen=True):
    """What was wrong: in words, which kind it is, and the field that it is about as a path."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct, frozen=True):
    """The body of every answer that is an error."""

    error: ErrorDetails


def models(names: Sequence[str], created: int, context: int | None) -> Models:
    """All names of the model. ``context``: None while it is not known yet."""
    return Models(data=[model(name, created, context) for name in names])


def model(name: str, created: int, context: int | None) -> Model:
    """One of its names."""
    return Model(id=name, created=created, context=UNSET if context is None else context)


def token_count(count: int, image_tokens: int, context: int) -> TokenCount:
    """Tokens of a prompt."""
    return TokenCount(
        count=count,
        image_tokens=image_tokens,
        text_tokens=count - image_tokens,
        context=context,
        remaining=max(0, context - count),
    )


def form_chat_answer(answer: made.Answer) -> FormChatAnswer:
    """What ``/api/v1/chat`` answers."""
    return FormChatAnswer(
        answer=answer.text,
        finish_reason=finish_reason(answer),
        usage=chat_usage([answer]),
        timings=timings([answer]),
        vlrun=extension(answer) or UNSET,
    )


def form_analyze_answer(answer: made.Answer) -> FormAnalyzeAnswer:
    """What ``/api/v1/analyze`` answers."""
    return FormAnalyzeAnswer(
        text=answer.text,
        finish_reason=finish_reason(answer),
        usage=chat_usage([answer]),
        timings=timings([answer]),
        vlrun=extension(answer) or UNSET,
    )
