"""The answers of ``POST /v1/chat/completions``, whole and in chunks, as OpenAI's clients read them.

Types, and how whole ones are made of ``Answer``; ``stream_chat`` makes the chunks. Knows neither HTTP nor events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from vlrun.server.api.common_response import Extension, Timings, TokenLogprob, extension, logprobs, said, timings
from vlrun.types import answer as made

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls"]


class NamedCall(Struct, frozen=True):
    """A function's name, and what to call it with: the JSON text of an object."""

    name: str
    arguments: str


class ToolCall(Struct, frozen=True, kw_only=True):
    """A call that the model wants."""

    id: str
    type: Literal["function"] = "function"
    function: NamedCall


class ToolCallDelta(Struct, frozen=True, kw_only=True):
    """A call that the model wants, in a stream."""

    index: int
    id: str
    type: Literal["function"] = "function"
    function: NamedCall


class Message(Struct, frozen=True, kw_only=True):
    """What the model says."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChoiceLogprobs(Struct, frozen=True):
    """How likely the tokens were."""

    content: list[TokenLogprob]
    refusal: None = None


class Choice(Struct, frozen=True, kw_only=True):
    """One of the answers."""

    index: int
    message: Message
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason
    vlrun: Extension | UnsetType = UNSET


class PromptDetails(Struct, frozen=True):
    """Of the prompt's tokens: those that did not have to run again, and those of images (an extension)."""

    cached_tokens: int
    image_tokens: int


class CompletionDetails(Struct, frozen=True):
    """Of the answer's tokens."""

    reasoning_tokens: int = 0


class ChatUsage(Struct, frozen=True):
    """Tokens of a request. The prompt counts once, the answers together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails = CompletionDetails()


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage
    timings: Timings


class Delta(Struct, frozen=True, kw_only=True):
    """What is new."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True, kw_only=True):
    """What is new of one of the answers."""

    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason | None = None
    vlrun: Extension | UnsetType = UNSET


class ChatCompletionChunk(Struct, frozen=True, kw_only=True):
    """A piece of an answer. The last one of each answer says why it ended and what it took. Without choices: the usage
    at the end (``stream_options.include_usage``), or progress at the beginning (``include_progress``).
    """

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET
    vlrun: Extension | UnsetType = UNSET


@dataclass(frozen=True)
class Chatting:
    """Makes the answers to one request. ``completion_id`` begins with ``chatcmpl-``; ``created``: seconds since 1970;
    ``calling``: whether the model may call tools.
    """

    completion_id: str
    created: int
    model: str
    calling: bool = False

    def whole(self, answers: Sequence[made.Answer]) -> ChatCompletion:
        """A whole answer with all its choices."""
        return ChatCompletion(
            id=self.completion_id,
            created=self.created,
            model=self.model,
            choices=[self._choice(index, answer) for index, answer in enumerate(answers)],
            usage=chat_usage(answers),
            timings=timings(answers),
        )

    def call_id(self, index: int, number: int) -> str:
        """Of one of a choice's calls; no other has it."""
        return f"call_{self.completion_id.rpartition('-')[2]}_{index}_{number}"

    def _choice(self, index: int, answer: made.Answer) -> Choice:
        text, calls = said(answer, self.calling)
        called = [
            ToolCall(id=self.call_id(index, number), function=NamedCall(call.name, call.arguments))
            for number, call in enumerate(calls)
        ]
        return Choice(
            index=index,
            message=Message(content=text, tool_calls=called or UNSET),
            logprobs=likely(answer.logprobs),
            finish_reason="tool_calls" if calls else finish_reason(answer),
            vlrun=extension(answer) or UNSET,
        )


def chat_usage(answers: Sequence[made.Answer]) -> ChatUsage:
    """Tokens of a request's answers. Cached are those of the prompt that no answer had to run again."""
    usages = [answer.usage for answer in answers]
    prompt, completion = usages[0].prompt_tokens, sum(usage.completion_tokens for usage in usages)
    details = PromptDetails(min(usage.cached_tokens for usage in usages), usages[0].image_tokens)
    return ChatUsage(prompt, completion, prompt + completion, details)


def finish_reason(answer: made.Answer) -> FinishReason:
    """Why an answer without calls ended, as OpenAI says it; ``length`` also if it went round in a circle."""
    return "stop" if answer.finish_reason == "stop" else "length"


def likely(tokens: Sequence[made.TokenLogprob]) -> ChoiceLogprobs | None:
    """How likely tokens were, None if that was not asked for."""
    return ChoiceLogprobs(logprobs(tokens)) if tokens else None
