"""``POST /v1/responses``: parses its requests, and formats answers as a response or its events."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import msgspec

from vlrun.models.family import ToolCallFormat
from vlrun.server.api import responses_schemas as responses
from vlrun.server.api import schemas, strict_json
from vlrun.server.api.answers import Json, OutputSplitter, extension, logprobs, split_output, timings
from vlrun.server.api.parsing import RequestParser, check_model, option_errors, parse_tool_choice
from vlrun.server.api.thinking import thinking_tokens
from vlrun.server.api.validation import convert
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.generation_request import AnswerChunk, GenerationRequest, Part, RequestMessage, ResponseAdapter
from vlrun.server.limits import ServerLimits
from vlrun.server.sse import event
from vlrun.types.answer import Answer, TokenLogprob, Usage
from vlrun.types.options import Options
from vlrun.types.turn import Role, ToolCall

RENAMED_OPTIONS = {"max_tokens": "max_output_tokens", "logprobs": "top_logprobs", "schema": "text.format"}


def parse(
    value: object, names: Sequence[str], limits: ServerLimits
) -> tuple[GenerationRequest, responses.ResponsesRequest]:
    """Parse the JSON of a request; also returns its fields, which the answer repeats. ``names``: of the model.

    Raises ApiError: 404 for another model, 400 for everything else, with the field.
    """
    body = convert(_with_types(value), responses.ResponsesRequest)
    check_model(body.model, names)
    parser = RequestParser(limits)
    tools = tuple(parser.tool(tool, f"tools[{index}]") for index, tool in enumerate(body.tools or ()))
    choice = body.tool_choice
    mode, name = (None, choice.name) if isinstance(choice, responses.FunctionChoice) else (choice, None)
    request = GenerationRequest(
        messages=_messages(body, parser),
        options=_options(body, parser),
        tools=tools,
        tool_choice=parse_tool_choice(mode, name, body.parallel_tool_calls, tools),
        stream=body.stream is True,
    )
    return request, body


def _with_types(value: object) -> object:
    """Items without a type are messages."""
    if not isinstance(value, dict) or not isinstance(value.get("input"), list):
        return value
    items = [{"type": "message", **item} if isinstance(item, dict) else item for item in value["input"]]
    return {**value, "input": items}


def _options(body: responses.ResponsesRequest, parser: RequestParser) -> Options:
    with_logprobs = "message.output_text.logprobs" in (body.include or ())
    if body.top_logprobs and not with_logprobs:
        raise bad_request("top_logprobs needs message.output_text.logprobs in include", "top_logprobs")
    schema: Mapping[str, Any] | None = None
    match body.text.format if body.text else None:
        case schemas.JsonObjectFormat():
            schema = {"type": "object"}
        case responses.SchemaFormat(schema=given):
            schema = parser.schema(given, "text.format.schema")
    with option_errors(RENAMED_OPTIONS):
        return Options(
            max_tokens=body.max_output_tokens,
            temperature=body.temperature,
            top_p=body.top_p,
            presence_penalty=body.presence_penalty,
            frequency_penalty=body.frequency_penalty,
            schema=schema,
            logprobs=(body.top_logprobs or 0) if with_logprobs else None,
            thinking_tokens=thinking_tokens(reasoning=body.reasoning),
        )


def _messages(body: responses.ResponsesRequest, parser: RequestParser) -> tuple[RequestMessage, ...]:
    messages: list[RequestMessage] = []
    if body.instructions is not None:
        messages.append(RequestMessage("system", (parser.text(body.instructions, "instructions"),)))
    if isinstance(body.input, str):
        return (*messages, RequestMessage("user", (parser.text(body.input, "input"),)))
    for index, item in enumerate(body.input):
        _add_item(messages, item, f"input[{index}]", parser)
    if not messages:
        raise bad_request("input must have a message, not only reasoning without a text", "input")
    return tuple(messages)


def _add_item(messages: list[RequestMessage], item: responses.InputItem, path: str, parser: RequestParser) -> None:
    """Add an item as a message, or a call to the assistant's message before it."""
    match item:
        case responses.FunctionCallItem():
            call = parser.call(item.call_id, item.name, item.arguments, f"{path}.arguments")
            if messages and messages[-1].role == "assistant":
                messages[-1] = replace(messages[-1], tool_calls=(*messages[-1].tool_calls, call))
            else:
                messages.append(RequestMessage("assistant", (), (call,)))
        case responses.ReasoningItem():
            if text := "".join(part.text for part in item.content or ()):  # none if it is encrypted
                messages.append(RequestMessage("assistant", (), (), parser.text(text, f"{path}.content")))
        case responses.FunctionCallOutputItem():
            parser.check_result(item.call_id, f"{path}.call_id")
            messages.append(RequestMessage("tool", _output(item.output, f"{path}.output", parser)))
        case responses.MessageItem(role=role, content=str(text)):
            _add_message(messages, _role(role), (parser.text(text, f"{path}.content"),))
        case responses.MessageItem(role=role, content=content):
            parts = (_part(part, role, f"{path}.content[{index}]", parser) for index, part in enumerate(content))
            _add_message(messages, _role(role), tuple(parts))


def _output(output: str | Sequence[responses.Input], path: str, parser: RequestParser) -> tuple[Part, ...]:
    if isinstance(output, str):
        return (parser.text(output, path),)
    return tuple(_part(part, "user", f"{path}[{index}]", parser) for index, part in enumerate(output))


def _add_message(messages: list[RequestMessage], role: Role, parts: tuple[Part, ...]) -> None:
    """Add a message, or the answer to the reasoning before it."""
    last = messages[-1] if messages else RequestMessage("user", ())
    only_reasoning = last.reasoning is not None and not last.parts and not last.tool_calls
    if role == "assistant" and only_reasoning:
        messages[-1] = replace(last, parts=parts)
    else:
        messages.append(RequestMessage(role, parts))


def _role(role: Any) -> Any:
    return "system" if role == "developer" else role


def _part(part: str | responses.Content, role: str, path: str, parser: RequestParser) -> Part:
    if isinstance(part, responses.OutputText | schemas.RefusalPart) != (role == "assistant"):
        expected = "output_text" if role == "assistant" else "input_text"
        raise bad_request(f"{path}.type must be {expected} in a message of the {role}", f"{path}.type")
    if isinstance(part, schemas.InputImage | schemas.InputFile) and role != "user":
        raise bad_request(f"{path} is an image: only user messages may have images", f"{path}.type")
    match part:
        case schemas.InputFile():
            return parser.file(part.file_data, part.detail, f"{path}.file_data", part.pages, part.filename, path)
        case schemas.InputImage():
            return parser.image(part.image_url, part.detail, f"{path}.image_url", part.region, part.enhance)
        case schemas.RefusalPart(refusal=text):
            return parser.text(text, f"{path}.refusal")
        case schemas.InputText(text=text) | responses.OutputText(text=text):
            return parser.text(text, f"{path}.text")
    raise AssertionError(part)


class ResponsesAdapter(ResponseAdapter):
    """Formats the answer of one request, and keeps the state of its stream."""

    renamed_params: ClassVar[Mapping[str, str]] = {"messages": "input", "response_format": "text.format"}

    def __init__(
        self,
        request: GenerationRequest,
        body: responses.ResponsesRequest,
        model: str,
        tool_calls: ToolCallFormat,
    ) -> None:
        super().__init__(request)
        self._tool_calls = tool_calls if request.uses_tools else None
        self._secret = secrets.token_hex(12)
        self._numbers = itertools.count()
        self._splitter = OutputSplitter(self._tool_calls)
        self._message_begun = False
        self._reasoning = ""
        self._reasoning_active = False
        self._message_index = 0
        self._logprobs: list[TokenLogprob] = []
        self._response: Json = {
            "id": f"resp_{self._secret}",
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": "in_progress",
            "background": False,
            "model": model,
            "output": [],
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": None,
            "metadata": body.metadata or {},
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": "none" if request.options.thinking_tokens == 0 else None, "summary": None},
            "service_tier": "default",
            "store": False,
            "temperature": body.temperature,
            "text": responses.TextConfig(format=(body.text and body.text.format) or schemas.TextFormat()),
            "tool_choice": body.tool_choice or "auto",
            "tools": body.tools or [],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": body.top_p,
            "truncation": "disabled",
        }

    @classmethod
    def read(
        cls, body: bytes, names: Sequence[str], limits: ServerLimits, tool_calls: ToolCallFormat
    ) -> ResponsesAdapter:
        """The adapter for a request's body. Raises ApiError."""
        return cls(*parse(strict_json.parse(body, limits), names, limits), names[0], tool_calls)

    def whole(self, answers: Sequence[Answer]) -> bytes:
        """The response."""
        return msgspec.json.encode(self._complete(answers[0]))

    def begin(self) -> list[bytes]:
        """The response before its first token."""
        return [
            self._event("response.created", {"response": self._response}),
            self._event("response.in_progress", {"response": self._response}),
        ]

    def events(self, chunk: AnswerChunk) -> list[bytes]:
        """Deltas of the text; the last chunk also brings the calls, and the complete items and response."""
        piece = chunk.chunk
        if piece.progress:
            return []
        self._logprobs.extend(piece.logprobs)
        events = self._reasoning_events(piece.reasoning) if piece.reasoning else []
        for text in self._splitter.push(piece.text, last=piece.answer is not None):
            if isinstance(text, str):  # calls come at the end
                tokens, self._logprobs = logprobs(self._logprobs), []
                events += self._begin_message()
                events.append(self._event("response.output_text.delta", self._place(delta=text, logprobs=tokens)))
        return [*events, *self._completion_events(self._complete(piece.answer))] if piece.answer else events

    def failed(self, error: ApiError) -> list[bytes]:
        """The error, and the response as failed."""
        code = "rate_limit_exceeded" if error.status == 429 else "invalid_prompt"
        failure = {"code": "server_error" if error.status >= 500 else code, "message": error.message}
        failed = {**self._response, "status": "failed", "error": failure}
        return [
            self._event("error", {"code": error.code, "message": error.message, "param": error.param}),
            self._event("response.failed", {"response": failed}),
        ]

    def _event(self, kind: str, fields: Mapping[str, object]) -> bytes:
        numbered = {"type": kind, "sequence_number": next(self._numbers), **fields}
        return event(msgspec.json.encode(numbered), kind)

    def _message(self, status: str, *content: Json) -> Json:
        head = {"type": "message", "id": f"msg_{self._secret}", "role": "assistant"}
        return {**head, "status": status, "content": content}

    def _place(self, **fields: object) -> dict[str, object]:
        """Fields of an event about the message's text, which says where it is."""
        index = self._message_index
        return {"item_id": f"msg_{self._secret}", "output_index": index, "content_index": 0, **fields}

    def _reasoning_item(self, text: str | None, status: str) -> Json:
        content = [] if text is None else [{"type": "reasoning_text", "text": text}]
        return {"type": "reasoning", "id": f"rs_{self._secret}", "summary": [], "content": content, "status": status}

    def _reasoning_events(self, text: str) -> list[bytes]:
        """A part of the reasoning, which is an item before the message."""
        place = {"item_id": f"rs_{self._secret}", "output_index": 0, "content_index": 0}
        events: list[bytes] = []
        if not self._reasoning_active:
            self._reasoning_active, self._message_index = True, 1
            begun = {"output_index": 0, "item": self._reasoning_item(None, "in_progress")}
            events.append(self._event("response.output_item.added", begun))
        self._reasoning += text
        return [*events, self._event("response.reasoning_text.delta", {**place, "delta": text})]

    def _end_reasoning(self, status: str) -> list[bytes]:
        """The end of the reasoning, if there is one and it has not ended."""
        if not self._reasoning_active:
            return []
        self._reasoning_active = False
        place = {"item_id": f"rs_{self._secret}", "output_index": 0, "content_index": 0}
        item = self._reasoning_item(self._reasoning, status)
        return [
            self._event("response.reasoning_text.done", {**place, "text": self._reasoning}),
            self._event("response.output_item.done", {"output_index": 0, "item": item}),
        ]

    def _begin_message(self) -> list[bytes]:
        if self._message_begun:
            return []
        ended = self._end_reasoning("completed")
        self._message_begun = True
        added = {"output_index": self._message_index, "item": self._message("in_progress")}
        return [
            *ended,
            self._event("response.output_item.added", added),
            self._event("response.content_part.added", self._place(part=_text_part("", []))),
        ]

    def _complete(self, answer: Answer) -> Json:
        text, calls = split_output(answer.text, self._tool_calls)
        complete = bool(calls) or answer.finish_reason == "stop"
        status = "completed" if complete else "incomplete"
        output = [self._call(number, call) for number, call in enumerate(calls)]
        if text is not None:
            output.insert(0, self._message(status, _text_part(text, logprobs(answer.logprobs))))
        if answer.reasoning:
            output.insert(0, self._reasoning_item(answer.reasoning, "completed" if text or calls else status))
        return {
            **self._response,
            "status": status,
            "completed_at": int(time.time()) if complete else None,
            "output": output,
            "incomplete_details": None if complete else {"reason": "max_output_tokens"},
            "usage": _usage(answer.usage),
            "timings": timings([answer]),
            **extension(answer),
        }

    def _call(self, number: int, call: ToolCall) -> Json:
        return {
            "type": "function_call",
            "id": f"fc_{self._secret}_{number}",
            "status": "completed",
            "call_id": f"call_{self._secret}_{number}",
            "name": call.name,
            "arguments": call.arguments,
        }

    def _completion_events(self, response: Json) -> list[bytes]:
        """Complete what the stream has begun, add the calls, and end it."""
        events: list[bytes] = []
        for index, item in enumerate(response["output"]):
            if item["type"] == "reasoning":
                events += self._end_reasoning(item["status"])
                continue
            if item["type"] == "message":
                (part,) = item["content"]
                done = self._place(text=part["text"], logprobs=part["logprobs"])
                events += self._begin_message()
                events.append(self._event("response.output_text.done", done))
                events.append(self._event("response.content_part.done", self._place(part=part)))
            else:
                place = {"item_id": item["id"], "output_index": index}
                begun = {"output_index": index, "item": {**item, "arguments": "", "status": "in_progress"}}
                named = {"name": item["name"], "arguments": item["arguments"]}
                delta = {**place, "delta": item["arguments"]}
                events.append(self._event("response.output_item.added", begun))
                events.append(self._event("response.function_call_arguments.delta", delta))
                events.append(self._event("response.function_call_arguments.done", {**place, **named}))
            events.append(self._event("response.output_item.done", {"output_index": index, "item": item}))
        complete = response["status"] == "completed"
        last = "response.completed" if complete else "response.incomplete"
        return [*events, self._event(last, {"response": response})]


def _text_part(text: str, tokens: list[Json]) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": tokens}


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": 0,  # caching costs nothing here
            "image_tokens": usage.image_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
