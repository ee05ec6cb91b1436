"""``POST /v1/chat/completions`` and ``POST /v1/tokenize`` as jobs: what the fields of their requests mean.

Knows the endpoint's words; knows neither HTTP nor the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlrun.server.api.chat_request import (
    AssistantMessage,
    ChatMessage,
    ChatRequest,
    ImagePart,
    JsonObjectFormat,
    JsonSchemaFormat,
    NamedToolChoice,
    RefusalPart,
    StreamOptions,
    TextPart,
    TokenizeRequest,
    ToolMessage,
    UserMessage,
)
from vlrun.server.api.common_request import FunctionTools, PlainText
from vlrun.server.api.request_parser import (
    ANY_OBJECT,
    Reader,
    check_model,
    check_schema,
    options_within,
    read_as,
    system_first,
    tool_choice,
)
from vlrun.server.api.unsupported import CHAT, TOKENIZE
from vlrun.server.api_errors import bad_request
from vlrun.server.generation_request import GenerationRequest, Part, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Options
from vlrun.types.turn import Tool

RENAMED = {"logprobs": "top_logprobs", "schema": "response_format"}
"""Fields of the request by the names of the options."""


def read_chat(value: object, names: Sequence[str], limits: ServerLimits) -> GenerationRequest:
    """A chat completion's request as a job. ``value``: its JSON; ``names``: of the model.

    Raises ApiError: 404 for another model, 400 for whatever else is wrong, with the field.
    """
    request = read_as(value, ChatRequest, CHAT)
    check_model(request.model, names)
    _check_together(request)
    reader = Reader(limits)
    tools = _tools(request.tools, reader)
    chosen = request.tool_choice
    mode, name = (None, chosen.function.name) if isinstance(chosen, NamedToolChoice) else (chosen, None)
    stream = request.stream_options or StreamOptions()
    return GenerationRequest(
        turns=_turns(request.messages, reader),
        options=_options(request, limits),
        tools=tools,
        choice=tool_choice(mode, name, request.parallel_tool_calls, tools),
        n=request.n or 1,
        stream=request.stream is True,
        include_usage=stream.include_usage is True,
        include_progress=stream.include_progress is True,
    )


def read_tokenize(value: object, names: Sequence[str], limits: ServerLimits) -> GenerationRequest | str:
    """What is to be counted: a conversation with its tools, or a text alone. Raises ApiError as ``read_chat`` does."""
    request = read_as(value, TokenizeRequest, TOKENIZE)
    if request.model is not None:
        check_model(request.model, names)
    reader = Reader(limits)
    if request.prompt is not None:
        if request.messages is not None or request.tools is not None:
            raise bad_request("prompt is a text alone: leave out messages and tools", "prompt")
        return reader.text(request.prompt, "prompt")
    if request.messages is None:
        raise bad_request("messages is missing", "messages", "missing_required_parameter")
    tools = _tools(request.tools, reader)
    return GenerationRequest(turns=_turns(request.messages, reader), tools=tools)


def _check_together(request: ChatRequest) -> None:
    """Fields that do not go together."""
    if request.max_tokens and request.max_completion_tokens not in (None, request.max_tokens):
        raise bad_request("max_tokens and max_completion_tokens differ: give one of them", "max_tokens")
    if request.top_logprobs and not request.logprobs:
        raise bad_request("top_logprobs needs logprobs to be true", "top_logprobs")
    if request.stream_options is not None and not request.stream:
        raise bad_request("stream_options needs stream to be true", "stream_options")
    if request.store:
        raise bad_request("store must be false: this service keeps nothing", "store", "unsupported_value")


def _options(request: ChatRequest, limits: ServerLimits) -> Options:
    """How to answer."""
    schema = _schema(request, limits)
    with options_within(RENAMED):
        return Options(
            max_tokens=request.max_completion_tokens or request.max_tokens,
            temperature=request.temperature,
            top_k=0 if request.top_k == -1 else request.top_k,
            top_p=request.top_p,
            min_p=request.min_p,
            repetition_penalty=request.repetition_penalty,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            seed=request.seed,
            stop=(request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ()),
            schema=schema,
            logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        )


def _schema(request: ChatRequest, limits: ServerLimits) -> Mapping[str, object] | None:
    match request.response_format:
        case JsonObjectFormat():
            return ANY_OBJECT
        case JsonSchemaFormat(json_schema=named):
            check_schema(named.schema, "response_format.json_schema.schema", limits)
            return named.schema
    return None


def _tools(tools: FunctionTools | None, reader: Reader) -> tuple[Tool, ...]:
    return tuple(reader.tool(tool.function, f"tools[{index}].function") for index, tool in enumerate(tools or ()))


def _turns(messages: Sequence[ChatMessage], reader: Reader) -> tuple[RequestMessage, ...]:
    turns = [_turn(message, f"messages[{index}]", reader) for index, message in enumerate(messages)]
    return system_first(turns, [f"messages[{index}].role" for index in range(len(turns))])


def _turn(message: ChatMessage, place: str, reader: Reader) -> RequestMessage:
    match message:
        case AssistantMessage():
            return _assistant(message, place, reader)
        case UserMessage():
            return RequestMessage("user", _parts(message.content, f"{place}.content", reader))
        case ToolMessage():
            reader.result(message.tool_call_id, f"{place}.tool_call_id")
            return RequestMessage("tool", _parts(message.content, f"{place}.content", reader))
    return RequestMessage("system", _parts(message.content, f"{place}.content", reader))


def _assistant(message: AssistantMessage, place: str, reader: Reader) -> RequestMessage:
    content = message.refusal if message.content is None else message.content
    if content is None and not message.tool_calls:
        needed = f"{place}.content is missing, and there are no tool_calls"
        raise bad_request(needed, f"{place}.content", "missing_required_parameter")
    calls = []
    for index, call in enumerate(message.tool_calls or ()):
        param = f"{place}.tool_calls[{index}].function.arguments"
        calls.append(reader.call(call.id, call.function.name, call.function.arguments, param))
    parts = () if content is None else _parts(content, f"{place}.content", reader)
    return RequestMessage("assistant", parts, tuple(calls))


def _parts(
    content: str | Sequence[PlainText | TextPart | ImagePart | RefusalPart], place: str, reader: Reader
) -> tuple[Part, ...]:
    """Texts and images of a message, in order."""
    if isinstance(content, str):
        return (reader.text(content, place),)
    return tuple(_part(part, f"{place}[{index}]", reader) for index, part in enumerate(content))


def _part(part: PlainText | TextPart | ImagePart | RefusalPart, place: str, reader: Reader) -> Part:
    match part:
        case ImagePart(image_url=image):
            return reader.image(image.url, image.detail, f"{place}.image_url.url")
        case RefusalPart():
            return reader.text(part.refusal, f"{place}.refusal")
    return reader.text(part.text, f"{place}.text")
