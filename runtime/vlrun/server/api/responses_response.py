"""The answer of ``POST /v1/responses`` as OpenAI's clients read it.

Types, and how they are made of an ``Answer`` and the request that it answers. Knows neither HTTP nor events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from vlrun.server.api.common_request import FlatFunctionTools, ToolMode
from vlrun.server.api.common_response import Extension, Timings, TokenLogprob, extension, logprobs, said, timings
from vlrun.server.api.responses_request import (
    FunctionChoice,
    ItemStatus,
    PlainFormat,
    ResponsesRequest,
    TextConfig,
)
from vlrun.server.api_errors import ApiError
from vlrun.types import answer as made
from vlrun.types.turn import ToolCall

Status: TypeAlias = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputTextPart(Struct, frozen=True, tag_field="type", tag="output_text"):
    """A piece of what the model says."""

    text: str
    annotations: list[Any] = []
    logprobs: list[TokenLogprob] = []


class OutputMessage(Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """What the model says."""

    id: str
    role: Literal["assistant"] = "assistant"
    status: ItemStatus
    content: list[OutputTextPart]


class FunctionCall(Struct, frozen=True, kw_only=True, tag_field="type", tag="function_call"):
    """A call that the model wants. ``arguments``: the JSON text of an object."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


OutputItem: TypeAlias = OutputMessage | FunctionCall


class InputDetails(Struct, frozen=True):
    """Of the prompt's tokens: those that did not have to run again, and those of images (an extension)."""

    cached_tokens: int
    image_tokens: int


class OutputDetails(Struct, frozen=True):
    """Of the answer's tokens."""

    reasoning_tokens: int = 0


class ResponsesUsage(Struct, frozen=True):
    """Tokens of a request."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Failure(Struct, frozen=True):
    """Why there is no answer."""

    code: str
    message: str


class IncompleteDetails(Struct, frozen=True):
    """Why an answer is not complete."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class Response(Struct, frozen=True, kw_only=True):
    """An answer, or what there is of it. Much of it repeats the request."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    model: str
    output: list[OutputItem]
    error: Failure | None = None
    incomplete_details: IncompleteDetails | None = None
    usage: ResponsesUsage | UnsetType = UNSET
    timings: Timings | UnsetType = UNSET
    vlrun: Extension | UnsetType = UNSET
    instructions: str | None
    max_output_tokens: int | None
    metadata: Mapping[str, str]
    parallel_tool_calls: bool
    previous_response_id: None = None
    store: bool = False
    temperature: float | None
    text: TextConfig
    tool_choice: ToolMode | FunctionChoice
    tools: FlatFunctionTools
    top_logprobs: int
    top_p: float | None
    truncation: Literal["disabled"] = "disabled"


@dataclass(frozen=True)
class Responding:
    """Makes the states of one response. ``response_id`` begins with ``resp_``; ``created``: seconds since 1970."""

    response_id: str
    created: int
    model: str
    request: ResponsesRequest

    @property
    def calling(self) -> bool:
        """Whether the model may call tools."""
        return bool(self.request.tools) and self.request.tool_choice != "none"

    @property
    def message_id(self) -> str:
        """Of the answer's text."""
        return f"msg_{self._secret}"

    @property
    def _secret(self) -> str:
        return self.response_id.rpartition("_")[2]

    def begun(self) -> Response:
        """Nothing is there yet."""
        return self._state("in_progress")

    def whole(self, answer: made.Answer) -> Response:
        """The whole answer."""
        text, calls = said(answer, self.calling)
        complete = bool(calls) or answer.finish_reason == "stop"
        status: Literal["completed", "incomplete"] = "completed" if complete else "incomplete"
        output: list[OutputItem] = [*self._messages(text, status, answer), *self._calls(calls)]
        details = None if complete else IncompleteDetails()
        usage, times, more = responses_usage(answer.usage), timings([answer]), extension(answer)
        return self._state(status, output, details, usage, times, more)

    def failed(self, error: ApiError) -> Response:
        """There will be no answer."""
        return self._state("failed", error=Failure(failure_code(error), error.message))

    def _messages(self, text: str | None, status: ItemStatus, answer: made.Answer) -> list[OutputMessage]:
        """What the model said: one message, none if the answer is calls alone."""
        if text is None:
            return []
        part = OutputTextPart(text, logprobs=logprobs(answer.logprobs))
        return [OutputMessage(id=self.message_id, status=status, content=[part])]

    def _calls(self, calls: Sequence[ToolCall]) -> list[FunctionCall]:
        """What the model wants called."""
        return [
            FunctionCall(
                id=f"fc_{self._secret}_{number}",
                call_id=f"call_{self._secret}_{number}",
                name=call.name,
                arguments=call.arguments,
                status="completed",
            )
            for number, call in enumerate(calls)
        ]

    def _state(
        self,
        status: Status,
        output: Sequence[OutputItem] = (),
        incomplete: IncompleteDetails | None = None,
        usage: ResponsesUsage | None = None,
        times: Timings | None = None,
        more: Extension | None = None,
        error: Failure | None = None,
    ) -> Response:
        asked = self.request
        return Response(
            id=self.response_id,
            created_at=self.created,
            status=status,
            model=self.model,
            output=list(output),
            error=error,
            incomplete_details=incomplete,
            usage=usage or UNSET,
            timings=times or UNSET,
            vlrun=more or UNSET,
            instructions=asked.instructions,
            max_output_tokens=asked.max_output_tokens,
            metadata=asked.metadata or {},
            parallel_tool_calls=asked.parallel_tool_calls is not False,
            temperature=asked.temperature,
            text=TextConfig(format=(asked.text and asked.text.format) or PlainFormat()),
            tool_choice=asked.tool_choice or "auto",
            tools=asked.tools or [],
            top_logprobs=asked.top_logprobs or 0,
            top_p=asked.top_p,
        )


def responses_usage(usage: made.Usage) -> ResponsesUsage:
    """Tokens of an answer."""
    return ResponsesUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputDetails(usage.cached_tokens, usage.image_tokens),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputDetails(),
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )


def failure_code(error: ApiError) -> str:
    """One of the codes that OpenAI names for responses."""
    return "rate_limit_exceeded" if error.status == 429 else "server_error" if error.status >= 500 else "invalid_prompt"
