"""A response as a stream: which events an answer's pieces become, in the order that OpenAI's clients expect.

Counts the events, and keeps what may still become a call. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from msgspec import Struct

from vlrun.models.registry import DEFAULT_FAMILY
from vlrun.prompt.tool_calls import ToolCallParser
from vlrun.server.api.common_response import TokenLogprob, logprobs
from vlrun.server.api.responses_response import (
    FunctionCall,
    OutputItem,
    OutputMessage,
    OutputTextPart,
    Responding,
    Response,
)
from vlrun.server.api_errors import ApiError
from vlrun.types import answer as made


class _Event(Struct, tag_field="type"):
    """An event; ``sequence_number`` counts them."""

    sequence_number: int


class Created(_Event, tag="response.created"):
    """The request was taken."""

    response: Response


class InProgress(_Event, tag="response.in_progress"):
    """The work has begun."""

    response: Response


class OutputItemAdded(_Event, tag="response.output_item.added"):
    """A message or a call begins."""

    output_index: int
    item: OutputItem


class ContentPartAdded(_Event, tag="response.content_part.added"):
    """A message's text begins."""

    item_id: str
    output_index: int
    part: OutputTextPart
    content_index: int = 0


class OutputTextDelta(_Event, tag="response.output_text.delta"):
    """A piece of the text."""

    item_id: str
    output_index: int
    delta: str
    logprobs: list[TokenLogprob]
    content_index: int = 0


class OutputTextDone(_Event, tag="response.output_text.done"):
    """The whole text."""

    item_id: str
    output_index: int
    text: str
    logprobs: list[TokenLogprob]
    content_index: int = 0


class ContentPartDone(_Event, tag="response.content_part.done"):
    """A message's text is complete."""

    item_id: str
    output_index: int
    part: OutputTextPart
    content_index: int = 0


class OutputItemDone(_Event, tag="response.output_item.done"):
    """A message or a call is complete."""

    output_index: int
    item: OutputItem


class ArgumentsDelta(_Event, tag="response.function_call_arguments.delta"):
    """A piece of a call's arguments."""

    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(_Event, tag="response.function_call_arguments.done"):
    """A call's arguments."""

    item_id: str
    name: str
    output_index: int
    arguments: str


class Completed(_Event, tag="response.completed"):
    """The whole answer."""

    response: Response


class Incomplete(_Event, tag="response.incomplete"):
    """What there is of an answer that was cut."""

    response: Response


class Failed(_Event, tag="response.failed"):
    """There will be no answer."""

    response: Response


class ErrorEvent(_Event, tag="error"):
    """What went wrong."""

    code: str | None
    message: str
    param: str | None


Event: TypeAlias = (
    Created
    | InProgress
    | OutputItemAdded
    | ContentPartAdded
    | OutputTextDelta
    | OutputTextDone
    | ContentPartDone
    | OutputItemDone
    | ArgumentsDelta
    | ArgumentsDone
    | Completed
    | Incomplete
    | Failed
    | ErrorEvent
)


def name_of(event: Event) -> str:
    """The event's name, which is also its ``type``."""
    return str(event.__struct_config__.tag)


class ResponseStream:
    """The events of one response: ``begin``, then ``take`` whatever comes; or at any time ``fail``."""

    def __init__(self, responding: Responding) -> None:
        self._responding = responding
        self._splitter = ToolCallParser(DEFAULT_FAMILY.tool_calls)
        self._number = 0
        self._speaking = False
        self._waiting: list[made.TokenLogprob] = []

    def begin(self) -> list[Event]:
        """The first events."""
        begun = self._responding.begun()
        return [
            Created(sequence_number=self._next(), response=begun),
            InProgress(sequence_number=self._next(), response=begun),
        ]

    def take(self, chunk: made.Chunk) -> list[Event]:
        """What a piece of the answer becomes; its last piece becomes all that is left to say."""
        if chunk.progress:
            return []
        self._waiting.extend(chunk.logprobs)
        pieces: Sequence[object] = [chunk.text]
        if self._responding.calling:
            pieces = [*self._splitter.push(chunk.text), *(self._splitter.flush() if chunk.answer else ())]
        texts = (piece for piece in pieces if piece and isinstance(piece, str))  # calls are told at the end
        events = [event for text in texts for event in self._text(text)]
        return [*events, *self._rest(chunk.answer)] if chunk.answer else events

    def fail(self, error: ApiError) -> list[Event]:
        """The last events of an answer that could not go on."""
        failed = self._responding.failed(error)
        told = ErrorEvent(sequence_number=self._next(), code=error.code, message=error.message, param=error.param)
        return [told, Failed(sequence_number=self._next(), response=failed)]

    def _next(self) -> int:
        self._number += 1
        return self._number - 1

    def _text(self, text: str) -> Iterator[Event]:
        yield from self._open()
        tokens, self._waiting = self._waiting, []
        yield OutputTextDelta(
            sequence_number=self._next(),
            item_id=self._responding.message_id,
            output_index=0,
            delta=text,
            logprobs=logprobs(tokens),
        )

    def _open(self) -> Iterator[Event]:
        """The message begins with its first piece."""
        if self._speaking:
            return
        self._speaking, item = True, self._responding.message_id
        empty = OutputMessage(id=item, status="in_progress", content=[])
        yield OutputItemAdded(sequence_number=self._next(), output_index=0, item=empty)
        yield ContentPartAdded(sequence_number=self._next(), item_id=item, output_index=0, part=OutputTextPart(""))

    def _rest(self, answer: made.Answer) -> Iterator[Event]:
        whole = self._responding.whole(answer)
        for index, item in enumerate(whole.output):
            yield from self._message(index, item) if isinstance(item, OutputMessage) else self._call(index, item)
            yield OutputItemDone(sequence_number=self._next(), output_index=index, item=item)
        last = Completed if whole.status == "completed" else Incomplete
        yield last(sequence_number=self._next(), response=whole)

    def _message(self, index: int, message: OutputMessage) -> Iterator[Event]:
        yield from self._open()
        part, item = message.content[0], message.id
        yield OutputTextDone(
            sequence_number=self._next(), item_id=item, output_index=index, text=part.text, logprobs=part.logprobs
        )
        yield ContentPartDone(sequence_number=self._next(), item_id=item, output_index=index, part=part)

    def _call(self, index: int, call: FunctionCall) -> Iterator[Event]:
        begun = FunctionCall(id=call.id, call_id=call.call_id, name=call.name, arguments="", status="in_progress")
        yield OutputItemAdded(sequence_number=self._next(), output_index=index, item=begun)
        yield ArgumentsDelta(sequence_number=self._next(), item_id=call.id, output_index=index, delta=call.arguments)
        yield ArgumentsDone(
            sequence_number=self._next(),
            item_id=call.id,
            name=call.name,
            output_index=index,
            arguments=call.arguments,
        )
