"""``POST /v1/tokenize``: counts the tokens of a conversation with its images, or of a text, without answering."""

from __future__ import annotations

from collections.abc import Sequence

from vlrun.server.api import fields
from vlrun.server.api.chat import parse_messages, parse_tools
from vlrun.server.api.chat_schemas import ChatMessages
from vlrun.server.api.parsing import RequestParser, check_model
from vlrun.server.api.schemas import FunctionTools, RequestStruct, Text
from vlrun.server.api.validation import convert
from vlrun.server.api_errors import bad_request
from vlrun.server.generation_request import GenerationRequest
from vlrun.server.limits import ServerLimits


class TokenizeRequest(RequestStruct):
    """What is to be counted: either ``messages`` (with ``tools``) or ``prompt``."""

    unused = fields.TOKENIZE
    model: str | None = None
    messages: ChatMessages | None = None
    tools: FunctionTools | None = None
    prompt: Text | None = None


def parse(value: object, names: Sequence[str], limits: ServerLimits) -> GenerationRequest | str:
    """Parse the JSON of a request: a conversation or a text. ``names``: the names of the model. Raises ApiError."""
    body = convert(value, TokenizeRequest)
    check_model(body.model, names)
    parser = RequestParser(limits)
    if body.prompt is not None:
        if body.messages is not None or body.tools is not None:
            raise bad_request("prompt counts a text alone: leave out messages and tools", "prompt")
        return parser.text(body.prompt, "prompt")
    if body.messages is None:
        raise bad_request("messages is missing", "messages", "missing_required_parameter")
    tools = parse_tools(body.tools, parser)
    return GenerationRequest(parse_messages(body.messages, parser), tools=tools)


def token_count(count: int, image_tokens: int, context: int) -> dict[str, int]:
    """The answer. ``remaining``: tokens that the context leaves for an answer."""
    return {
        "count": count,
        "image_tokens": image_tokens,
        "text_tokens": count - image_tokens,
        "context": context,
        "remaining": max(0, context - count),
    }
