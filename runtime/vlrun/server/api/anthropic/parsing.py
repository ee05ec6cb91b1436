"""Parses the requests of Anthropic's clients: conversations to be answered or counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlrun.server.api import schemas
from vlrun.server.api.anthropic import schemas as anthropic
from vlrun.server.api.parsing import RequestParser, check_model, option_errors, parse_tool_choice, stop_strings
from vlrun.server.api.validation import convert
from vlrun.server.api_errors import bad_request
from vlrun.server.generation_request import GenerationRequest, Part, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Options
from vlrun.types.turn import Mode, Tool, ToolCall, ToolChoice

RENAMED_OPTIONS = {"stop": "stop_sequences", "schema": "output_config", "thinking_tokens": "thinking"}
FAILED = "The call failed."
"""The result of a call that failed without a text: an empty one would look like a success."""


@dataclass(frozen=True)
class ParsedRequest:
    """A request, and whether its answer shows the reasoning."""

    request: GenerationRequest
    shows_reasoning: bool


def parse(value: object, names: Sequence[str], limits: ServerLimits) -> ParsedRequest:
    """Parse the JSON of a request for an answer. ``names``: the names of the model. Raises ApiError (400, 404)."""
    body = convert(value, anthropic.MessagesRequest)
    parser, messages, tools = _conversation(body, names, limits)
    if messages[-1].role == "assistant":
        place = f"messages[{len(body.messages) - 1}].role"
        raise bad_request(f"{place} is assistant: the service cannot continue an answer that has begun", place)
    request = GenerationRequest(
        messages=messages,
        options=_options(body, parser),
        tools=tools,
        tool_choice=_choice(body, tools),
        stream=body.stream is True,
    )
    return ParsedRequest(request, body.thinking is None or body.thinking.display != "omitted")


def parse_count(value: object, names: Sequence[str], limits: ServerLimits) -> GenerationRequest:
    """Parse the JSON of a request for the number of tokens. Raises ApiError (400, 404)."""
    _, messages, tools = _conversation(convert(value, anthropic.CountTokensRequest), names, limits)
    return GenerationRequest(messages, tools=tools)


def _conversation(
    body: anthropic.CountTokensRequest, names: Sequence[str], limits: ServerLimits
) -> tuple[RequestParser, tuple[RequestMessage, ...], tuple[Tool, ...]]:
    check_model(body.model, names)
    parser = RequestParser(limits)
    tools = tuple(parser.tool(_function(tool), f"tools[{index}]") for index, tool in enumerate(body.tools or ()))
    messages = [RequestMessage("system", tuple(_system(body.system, "system", parser)))] if body.system else []
    for index, message in enumerate(body.messages):
        messages += _messages(message, f"messages[{index}]", parser)
    return parser, tuple(messages), tools


def _function(tool: anthropic.CustomTool) -> schemas.Function:
    return schemas.Function(tool.name, tool.description, tool.input_schema, tool.strict)


def _messages(message: anthropic.AnthropicMessage, path: str, parser: RequestParser) -> Iterator[RequestMessage]:
    """The messages that one of Anthropic's is: each result is a message of its own."""
    content = f"{path}.content"
    match message:
        case anthropic.AnthropicSystemMessage():
            yield RequestMessage("system", tuple(_system(message.content, content, parser)))
        case anthropic.AnthropicAssistantMessage(content=str(text)):
            yield RequestMessage("assistant", (parser.text(text, content),))
        case anthropic.AnthropicAssistantMessage(content=list(blocks)):
            yield _assistant(blocks, content, parser)
        case anthropic.AnthropicUserMessage(content=str(text)):
            yield RequestMessage("user", (parser.text(text, content),))
        case anthropic.AnthropicUserMessage(content=list(blocks)):
            yield from _user(blocks, content, parser)


def _system(content: anthropic.SystemContent, path: str, parser: RequestParser) -> Iterator[Part]:
    """The texts of a system prompt, each a paragraph."""
    if isinstance(content, str):
        yield parser.text(content, path)
        return
    for index, block in enumerate(content):
        yield parser.text(block.text if index == 0 else f"\n\n{block.text}", f"{path}[{index}].text")


def _user(blocks: Sequence[anthropic.UserBlock], path: str, parser: RequestParser) -> Iterator[RequestMessage]:
    parts: list[Part] = []
    for index, block in enumerate(blocks):
        place = f"{path}[{index}]"
        if isinstance(block, anthropic.ToolResultBlock):
            if parts:
                raise bad_request(f"{place}: results must come before other parts of a message", place)
            yield _result(block, place, parser)
        else:
            parts.append(_part(block, place, parser))
    if parts:
        yield RequestMessage("user", tuple(parts))


def _result(block: anthropic.ToolResultBlock, path: str, parser: RequestParser) -> RequestMessage:
    parser.check_result(block.tool_use_id, f"{path}.tool_use_id")
    match block.content:
        case str(text):
            parts: tuple[Part, ...] = (parser.text(text, f"{path}.content"),) if text else ()
        case content:
            parts = tuple(_part(part, f"{path}.content[{index}]", parser) for index, part in enumerate(content or ()))
    return RequestMessage("tool", parts or ((FAILED,) if block.is_error else ("",)))


def _part(
    block: anthropic.TextBlock | anthropic.ImageBlock | anthropic.DocumentBlock, path: str, parser: RequestParser
) -> Part:
    if isinstance(block, anthropic.TextBlock):
        return parser.text(block.text, f"{path}.text")
    url, place = _source(block.source, f"{path}.source")
    if isinstance(block, anthropic.DocumentBlock):
        return parser.file(url, None, place, block.pages, block.title, path)
    return parser.image(url, None, place)


def _source(source: anthropic.Base64Source | anthropic.UrlSource, path: str) -> tuple[str, str]:
    """The URL of a file, and the field that it came in."""
    if isinstance(source, anthropic.UrlSource):
        return source.url, f"{path}.url"
    return f"data:{source.media_type};base64,{source.data}", f"{path}.data"


def _assistant(blocks: Sequence[anthropic.AssistantBlock], path: str, parser: RequestParser) -> RequestMessage:
    parts: list[Part] = []
    calls: list[ToolCall] = []
    reasoning: str | None = None
    for index, block in enumerate(blocks):
        place = f"{path}[{index}]"
        match block:
            case anthropic.TextBlock(text=text):
                parts.append(parser.text(text, f"{place}.text"))
            case anthropic.ToolUseBlock(input=given):
                arguments = json.dumps(given, ensure_ascii=False)
                calls.append(parser.call(block.id, block.name, arguments, f"{place}.input"))
            case anthropic.ThinkingBlock(thinking=text):
                reasoning = (reasoning or "") + parser.text(text, f"{place}.thinking")
    return RequestMessage("assistant", tuple(parts), tuple(calls), reasoning)


def _options(body: anthropic.MessagesRequest, parser: RequestParser) -> Options:
    schema: Mapping[str, Any] | None = None
    configured = body.output_config.format if body.output_config else None
    if configured is not None:
        schema = parser.schema(configured.schema, "output_config.format.schema")
    elif body.output_format is not None:
        schema = parser.schema(body.output_format.schema, "output_format.schema")
    with option_errors(RENAMED_OPTIONS):
        return Options(
            max_tokens=body.max_tokens,
            temperature=body.temperature,
            top_k=0 if body.top_k == -1 else body.top_k,
            top_p=body.top_p,
            stop=stop_strings(body.stop_sequences),
            schema=schema,
            thinking_tokens=_thinking_tokens(body.thinking),
        )


def _thinking_tokens(config: anthropic.ThinkingConfig | None) -> int | None:
    """The budget of the reasoning. Without ``thinking`` there is none: clients expect the text in the first block."""
    return 0 if config is None or config.type == "disabled" else config.budget_tokens


def _choice(body: anthropic.MessagesRequest, tools: Sequence[Tool]) -> ToolChoice:
    mode: Mode = "auto"
    name: str | None = None
    match body.tool_choice:
        case anthropic.NoChoice():
            return ToolChoice("none")
        case anthropic.NamedChoice(name=name):
            mode = "required"
        case anthropic.AnyChoice():
            mode = "required"
    parallel = body.tool_choice is None or not body.tool_choice.disable_parallel_tool_use
    return parse_tool_choice(mode, name, parallel, tools)
