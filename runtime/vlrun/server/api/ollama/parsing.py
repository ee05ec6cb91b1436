"""Parses the requests of Ollama's clients: chats, prompts and names of models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlrun.server.api.ollama import schemas as ollama
from vlrun.server.api.parsing import RequestParser, option_errors, stop_strings
from vlrun.server.api.validation import convert, quoted
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.generation_request import GenerationRequest, Part, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.options import RANGES, Options
from vlrun.types.turn import Tool

LATEST = ":latest"
NO_TIME = re.compile(r"[+-]?0[0.a-zµ]*")
"""A duration of zero, as Go writes it: ``0``, ``0s``, ``0h0m``."""
RENAMED_OPTIONS = {
    "max_tokens": "options.num_predict",
    "repetition_penalty": "options.repeat_penalty",
    "logprobs": "top_logprobs",
    "schema": "format",
    "thinking_tokens": "think",
    **{
        name: f"options.{name}"
        for name in ("temperature", "top_k", "top_p", "min_p", "seed", "stop", "presence_penalty", "frequency_penalty")
    },
}


def with_tag(name: str) -> str:
    """The name as Ollama lists it."""
    return name if ":" in name.rpartition("/")[2] else name + LATEST


def served_name(wanted: str, names: Sequence[str]) -> str:
    """The name of the model that a client asks for, with or without the tag. Raises ApiError (404)."""
    for name in names:
        if wanted in (name, with_tag(name)):
            return name
    raise ApiError(404, f"the model {quoted(wanted)} is not served here", "model_not_found", "model")


def parse_name(value: object, names: Sequence[str]) -> str:
    """The name of the model that a request is about. Raises ApiError (400, 404)."""
    body = convert(value, ollama.NamedModel)
    served = [served_name(name, names) for name in (body.model, body.name) if name is not None]
    if not served:
        raise bad_request("model is missing", "model", "missing_required_parameter")
    return served.pop()


@dataclass(frozen=True)
class ParsedRequest:
    """A request, the model's name as the client wrote it, and whether the model should be unloaded at once."""

    request: GenerationRequest
    model: str
    unloads: bool = False


def parse_chat(value: object, names: Sequence[str], limits: ServerLimits) -> ParsedRequest:
    """Parse a chat. Raises ApiError (400, 404)."""
    body = convert(value, ollama.OllamaChatRequest)
    served_name(body.model, names)
    parser = RequestParser(limits)
    tools = tuple(parser.tool(tool.function, f"tools[{index}].function") for index, tool in enumerate(body.tools or ()))
    messages = (_message(message, f"messages[{index}]", parser) for index, message in enumerate(body.messages or ()))
    return _parsed(body, tuple(messages), tools, parser)


def parse_prompt(value: object, names: Sequence[str], limits: ServerLimits) -> ParsedRequest:
    """Parse a prompt. Raises ApiError (400, 404)."""
    body = convert(value, ollama.OllamaGenerateRequest)
    served_name(body.model, names)
    parser = RequestParser(limits)
    messages = []
    if body.prompt or body.images:
        if body.system:
            messages.append(RequestMessage("system", (parser.text(body.system, "system"),)))
        messages.append(RequestMessage("user", _parts(body.images, body.prompt, "images", "prompt", parser)))
    return _parsed(body, tuple(messages), (), parser)


def _parsed(
    body: ollama.AnswerRequest, messages: tuple[RequestMessage, ...], tools: tuple[Tool, ...], parser: RequestParser
) -> ParsedRequest:
    request = GenerationRequest(messages, _options(body, parser), tools, stream=body.stream is not False)
    time = body.keep_alive
    unloads = NO_TIME.fullmatch(time) is not None if isinstance(time, str) else time == 0
    return ParsedRequest(request, body.model, unloads)


def _message(message: ollama.OllamaMessage, path: str, parser: RequestParser) -> RequestMessage:
    if message.images and message.role not in ("user", "tool"):
        raise bad_request(f"{path}.images: only messages of users and tools may have images", f"{path}.images")
    if message.tool_calls and message.role != "assistant":
        raise bad_request(f"{path}.tool_calls: only the assistant calls tools", f"{path}.tool_calls")
    parts = _parts(message.images, message.content, f"{path}.images", f"{path}.content", parser)
    match message.role:
        case "assistant":
            calls = (
                parser.call(
                    f"{path}.{index}",
                    call.function.name,
                    json.dumps(call.function.arguments or {}, ensure_ascii=False),
                    f"{path}.tool_calls[{index}].function.arguments",
                )
                for index, call in enumerate(message.tool_calls or ())
            )
            thinking = None if message.thinking is None else parser.text(message.thinking, f"{path}.thinking")
            return RequestMessage("assistant", parts, tuple(calls), thinking)
        case "system" | "developer":
            return RequestMessage("system", parts)
        case role:
            return RequestMessage(role, parts)


def _parts(
    images: Sequence[str] | None, text: str | None, image_path: str, text_path: str, parser: RequestParser
) -> tuple[Part, ...]:
    """The images of a message and the text after them, which is where Ollama puts it."""
    parts: list[Part] = []
    for index, image in enumerate(images or ()):
        url = image if image.startswith("data:") else f"data:image/png;base64,{image}"  # the bytes decide on the type
        parts.append(parser.image(url, None, f"{image_path}[{index}]"))
    if text:
        parts.append(parser.text(text, text_path))
    return tuple(parts)


def _options(body: ollama.AnswerRequest, parser: RequestParser) -> Options:
    given = body.options or ollama.ModelOptions()
    _check_window(given)
    schema: Mapping[str, Any] | None = None
    if isinstance(body.format, dict):
        schema = parser.schema(body.format, "format")
    elif body.format == "json":
        schema = {"type": "object"}
    elif body.format:
        raise bad_request('format must be "json" or a JSON schema', "format")
    penalties = [given.repeat_penalty, given.presence_penalty, given.frequency_penalty]
    if given.repeat_last_n == 0:
        penalties = [1.0, 0.0, 0.0]
    length = given.num_predict
    with option_errors(RENAMED_OPTIONS):
        return Options(
            max_tokens=RANGES["max_tokens"] if length is not None and length <= 0 else length,
            temperature=given.temperature,
            top_k=None if given.top_k is None else max(0, given.top_k),
            top_p=given.top_p,
            min_p=given.min_p,
            repetition_penalty=penalties[0],
            presence_penalty=penalties[1],
            frequency_penalty=penalties[2],
            seed=None if given.seed is None or given.seed < 0 else given.seed,
            stop=stop_strings(given.stop),
            schema=schema,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            thinking_tokens=0 if body.think is False else None,
        )


def _check_window(given: ollama.ModelOptions) -> None:
    """Refuse penalties for the last tokens only: they would change the answer."""
    penalized = given.repeat_penalty not in (None, 1) or given.presence_penalty or given.frequency_penalty
    if (given.repeat_last_n or 0) > 0 and penalized:
        reason = "options.repeat_last_n: penalties count the whole conversation: give -1, or 0 for no penalty"
        raise bad_request(reason, "options.repeat_last_n", "unsupported_value")
