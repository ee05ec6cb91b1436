"""``POST /v1/chat/completions``: parses its requests, and formats answers as completions or chunks."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vlrun.models.family import ToolCallFormat
from vlrun.server.api import chat_schemas as chat
from vlrun.server.api import schemas, strict_json
from vlrun.server.api.answers import (
    Json,
    OutputSplitter,
    chat_usage,
    finish_reason,
    logprobs,
    progress,
    split_output,
    timings,
)
from vlrun.server.api.chat_tasks import with_extensions
from vlrun.server.api.extensions import chat_extension
from vlrun.server.api.parsing import (
    RequestParser,
    check_model,
    option_errors,
    parse_tool_choice,
    sampling,
)
from vlrun.server.api.thinking import thinking_tokens
from vlrun.server.api.validation import convert
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.generation_request import AnswerChunk, GenerationRequest, Part, RequestMessage, ResponseAdapter
from vlrun.server.limits import ServerLimits
from vlrun.server.sse import DONE, event
from vlrun.tasks.definition import Task, built_in_tasks
from vlrun.types.answer import Answer, TokenLogprob
from vlrun.types.options import Options
from vlrun.types.turn import Tool, ToolCall

RENAMED_OPTIONS = {
    "logprobs": "top_logprobs",
    "schema": "response_format",
    "thinking_tokens": "thinking_token_budget",
}


def parse(
    value: object, names: Sequence[str], limits: ServerLimits, tasks: Mapping[str, Task] | None = None
) -> GenerationRequest:
    """Parse the JSON of a request. ``names``: the names of the model; ``tasks``: all tasks, None for the built-in ones.

    Raises ApiError: 404 for another model, 400 for everything else, with the field.
    """
    body = convert(value, chat.ChatRequest)
    check_model(body.model, names)
    _check_combinations(body)
    parser = RequestParser(limits)
    tools = parse_tools(body.tools, parser)
    choice = body.tool_choice
    mode, name = (None, choice.function.name) if isinstance(choice, chat.NamedToolChoice) else (choice, None)
    stream = body.stream_options or schemas.StreamOptions()
    request = GenerationRequest(
        messages=parse_messages(body.messages, parser),
        options=_options(body, parser),
        tools=tools,
        tool_choice=parse_tool_choice(mode, name, body.parallel_tool_calls, tools),
        n=body.n or 1,
        stream=body.stream is True,
        include_usage=stream.include_usage is True,
        include_progress=stream.include_progress is True,
    )
    return with_extensions(request, body.vlrun, built_in_tasks() if tasks is None else tasks, limits)


def _check_combinations(body: chat.ChatRequest) -> None:
    if body.max_tokens and body.max_completion_tokens not in (None, body.max_tokens):
        raise bad_request("max_tokens and max_completion_tokens differ: give one of them", "max_tokens")
    if body.top_logprobs and not body.logprobs:
        raise bad_request("top_logprobs needs logprobs to be true", "top_logprobs")


def _options(body: chat.ChatRequest, parser: RequestParser) -> Options:
    schema: Mapping[str, Any] | None = None
    if isinstance(body.response_format, schemas.JsonObjectFormat):
        schema = {"type": "object"}
    elif isinstance(body.response_format, chat.JsonSchemaFormat):
        schema = parser.schema(body.response_format.json_schema.schema, "response_format.json_schema.schema")
    with option_errors(RENAMED_OPTIONS):
        return Options(
            max_tokens=body.max_completion_tokens or body.max_tokens,
            **sampling(body),
            schema=schema,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            thinking_tokens=thinking_tokens(
                body.reasoning_effort,
                body.enable_thinking,
                body.chat_template_kwargs,
                body.thinking,
                body.thinking_token_budget,
                body.reasoning,
            ),
        )


def parse_tools(tools: schemas.FunctionTools | None, parser: RequestParser) -> tuple[Tool, ...]:
    """The functions that the model may call."""
    return tuple(parser.tool(tool.function, f"tools[{index}].function") for index, tool in enumerate(tools or ()))


def parse_messages(messages: Sequence[chat.ChatMessage], parser: RequestParser) -> tuple[RequestMessage, ...]:
    """The conversation."""
    return tuple(_message(message, f"messages[{index}]", parser) for index, message in enumerate(messages))


def _message(message: chat.ChatMessage, path: str, parser: RequestParser) -> RequestMessage:
    match message:
        case chat.AssistantMessage():
            return _assistant(message, path, parser)
        case chat.ToolMessage():
            parser.check_result(message.tool_call_id, f"{path}.tool_call_id")
            return RequestMessage("tool", _parts(message.content, f"{path}.content", parser))
        case chat.UserMessage():
            return RequestMessage("user", _parts(message.content, f"{path}.content", parser))
    return RequestMessage("system", _parts(message.content, f"{path}.content", parser))


def _assistant(message: chat.AssistantMessage, path: str, parser: RequestParser) -> RequestMessage:
    content = message.refusal if message.content is None else message.content
    calls = [
        parser.call(
            call.id, call.function.name, call.function.arguments, f"{path}.tool_calls[{index}].function.arguments"
        )
        for index, call in enumerate(message.tool_calls or ())
    ]
    parts = _parts(content, f"{path}.content", parser)
    name = "reasoning" if message.reasoning_content is None else "reasoning_content"
    reasoning = message.reasoning if message.reasoning_content is None else message.reasoning_content
    if reasoning is not None:
        parser.text(reasoning, f"{path}.{name}")
    return RequestMessage("assistant", parts, tuple(calls), reasoning)


def _parts(
    content: str | Sequence[chat.ContentPart | schemas.RefusalPart] | None,
    path: str,
    parser: RequestParser,
) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (parser.text(content, path),)
    return tuple(_part(part, f"{path}[{index}]", parser) for index, part in enumerate(content or ()))


def _part(part: chat.ContentPart | schemas.RefusalPart, path: str, parser: RequestParser) -> Part:
    match part:
        case str(text):
            return parser.text(text, path)
        case schemas.RefusalPart(refusal=text):
            return parser.text(text, f"{path}.refusal")
        case chat.TextPart(text=text) | schemas.InputText(text=text):
            return parser.text(text, f"{path}.text")
        case chat.FilePart() | schemas.InputFile():
            file, path = (part.file, f"{path}.file") if isinstance(part, chat.FilePart) else (part, path)
            return parser.file(file.file_data, file.detail, f"{path}.file_data", file.pages, file.filename, path)
        case chat.VideoURLPart() | chat.VideoPart():
            return _video(part, path, parser)
    return _image(part, path, parser)


def _video(part: chat.VideoURLPart | chat.VideoPart, path: str, parser: RequestParser) -> Part:
    if isinstance(part, chat.VideoPart):
        return parser.video(part.video, part, f"{path}.video")
    if isinstance(part.video_url, str):
        return parser.video(part.video_url, schemas.VideoOptions(), f"{path}.video_url")
    return parser.video(part.video_url.url, part.video_url, f"{path}.video_url.url")


def _image(part: chat.ImagePart | schemas.InputImage, path: str, parser: RequestParser) -> Part:
    match part:
        case chat.ImagePart(image_url=chat.ImageURL() as image):
            return parser.image(image.url, image.detail, f"{path}.image_url.url", image.region, image.enhance)
        case chat.ImagePart(image_url=str(url)):
            return parser.image(url, None, f"{path}.image_url")
        case schemas.InputImage():
            return parser.image(part.image_url, part.detail, f"{path}.image_url", part.region, part.enhance)
    raise AssertionError(part)


class _Choice:
    """The streaming state of one choice."""

    def __init__(self, tool_calls: ToolCallFormat | None) -> None:
        self.splitter = OutputSplitter(tool_calls)
        self.calls = 0
        self.logprobs: list[TokenLogprob] = []


class ChatAdapter(ResponseAdapter):
    """Formats the answers of one request."""

    def __init__(self, request: GenerationRequest, model: str, tool_calls: ToolCallFormat) -> None:
        super().__init__(request)
        self._secret = secrets.token_hex(12)
        self._head = {"id": f"chatcmpl-{self._secret}", "created": int(time.time()), "model": model}
        self._tool_calls = tool_calls if request.uses_tools else None
        self._choices = [_Choice(self._tool_calls) for _ in range(request.n)]

    @classmethod
    def read(
        cls,
        body: bytes,
        names: Sequence[str],
        limits: ServerLimits,
        tool_calls: ToolCallFormat,
        tasks: Mapping[str, Task] | None = None,
    ) -> ChatAdapter:
        """The adapter for a request's body. Raises ApiError."""
        return cls(parse(strict_json.parse(body, limits), names, limits, tasks), names[0], tool_calls)

    def whole(self, answers: Sequence[Answer]) -> bytes:
        """A completion with all its choices."""
        completion = {
            **self._head,
            "object": "chat.completion",
            "choices": [self._choice(index, answer) for index, answer in enumerate(answers)],
            "usage": chat_usage(answers),
            "timings": timings(answers),
        }
        return msgspec.json.encode(completion)

    def begin(self) -> list[bytes]:
        """The first chunk of each choice."""
        return [self._delta(index, {"role": "assistant", "content": ""}) for index in range(self.request.n)]

    def events(self, chunk: AnswerChunk) -> list[bytes]:
        """The last chunk of an answer also has its finish reason and timings."""
        index, piece, choice = chunk.index, chunk.chunk, self._choices[chunk.index]
        if piece.progress:
            return [self._chunk([], progress(piece.progress))] if self.request.include_progress else []
        choice.logprobs.extend(piece.logprobs)
        events = [self._notes(index, piece.notes)] if piece.notes else []
        if piece.reasoning:
            events.append(self._delta(index, {"reasoning_content": piece.reasoning}))
        for part in choice.splitter.push(piece.text, last=piece.answer is not None):
            if isinstance(part, str):
                tokens, choice.logprobs = choice.logprobs, []
                events.append(self._delta(index, {"content": part}, tokens))
            else:
                call = {"index": choice.calls, **self._call(index, choice.calls, part)}
                events.append(self._delta(index, {"tool_calls": [call]}))
                choice.calls += 1
        if piece.answer:
            reason = "tool_calls" if choice.calls else finish_reason(piece.answer)
            last = {
                "index": index,
                "delta": {},
                "logprobs": _logprobs(choice.logprobs),
                "finish_reason": reason,
                **chat_extension(piece.answer, whole_text=not choice.calls),
            }
            events.append(self._chunk([last], {"timings": timings([piece.answer])}))
        return events

    def end(self, answers: Sequence[Answer]) -> list[bytes]:
        """The usage, if it was asked for, and OpenAI's end mark."""
        return [self._chunk([], {"usage": chat_usage(answers)}), DONE] if self.request.include_usage else [DONE]

    def failed(self, error: ApiError) -> list[bytes]:
        """The error in place of a chunk."""
        return [event(error.body())]

    def _choice(self, index: int, answer: Answer) -> Json:
        text, calls = split_output(answer.text, self._tool_calls)
        reasoning = {"reasoning_content": answer.reasoning} if answer.reasoning else {}
        called = {"tool_calls": [self._call(index, number, call) for number, call in enumerate(calls)]} if calls else {}
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None, **reasoning, **called},
            "logprobs": _logprobs(answer.logprobs),
            "finish_reason": "tool_calls" if calls else finish_reason(answer),
            **chat_extension(answer, whole_text=not calls),
        }

    def _call(self, choice: int, number: int, call: ToolCall) -> Json:
        function = {"name": call.name, "arguments": call.arguments}
        return {"id": f"call_{self._secret}_{choice}_{number}", "type": "function", "function": function}

    def _delta(self, index: int, delta: Json, tokens: Sequence[TokenLogprob] = ()) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": _logprobs(tokens), "finish_reason": None}
        return self._chunk([choice], {})

    def _notes(self, index: int, notes: Sequence[str]) -> bytes:
        """What the client should know before the model runs, such as a reduced image."""
        choice = {"index": index, "delta": {}, "logprobs": None, "finish_reason": None, "vlrun": {"notes": notes}}
        return self._chunk([choice], {})

    def _chunk(self, choices: Sequence[Json], more: Json) -> bytes:
        """With ``include_usage`` every chunk has a usage, null but for the last one."""
        usage = {"usage": None} if self.request.include_usage else {}
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": choices, **usage, **more}
        return event(msgspec.json.encode(chunk))


def _logprobs(tokens: Sequence[TokenLogprob]) -> Json | None:
    return {"content": logprobs(tokens), "refusal": None} if tokens else None
