"""``POST /v1/responses``, the common subset: types of its requests, as OpenAI's clients write them.

Fields of type None are known and not supported. Items of an earlier answer are accepted unchanged.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from vlrun.server.api import schemas
from vlrun.server.api.schemas import CallId, Ignored, RequestStruct, Text
from vlrun.server.api.thinking import Reasoning
from vlrun.types.options import Detail
from vlrun.types.turn import Mode

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]


class InputText(RequestStruct, tag_field="type", tag="input_text"):
    """Text."""

    text: Text


class InputImage(RequestStruct, tag_field="type", tag="input_image"):
    """An image: PNG, JPEG, WebP, BMP or GIF."""

    image_url: schemas.DataURL
    detail: Detail | None = None
    file_id: None = None


class OutputText(RequestStruct, tag_field="type", tag="output_text"):
    """Text of an earlier answer."""

    text: Text
    annotations: schemas.IgnoredList | None = None
    logprobs: schemas.IgnoredList | None = None


Content: TypeAlias = InputText | InputImage | OutputText | schemas.RefusalPart


class MessageItem(RequestStruct, tag_field="type", tag="message"):
    """A message. Only user messages have images; ``output_text`` and ``refusal`` belong to the assistant."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Annotated[list[Content], Meta(min_length=1)]
    id: Ignored | None = None
    status: ItemStatus | None = None
    phase: Ignored | None = None


class FunctionCallItem(RequestStruct, tag_field="type", tag="function_call"):
    """A call that the model made. ``arguments``: the JSON text of an object."""

    call_id: CallId
    name: schemas.FunctionName
    arguments: Text
    id: Ignored | None = None
    status: ItemStatus | None = None
    namespace: None = None


class FunctionCallOutputItem(RequestStruct, tag_field="type", tag="function_call_output"):
    """The result of an earlier call."""

    call_id: CallId
    output: Text | Annotated[list[InputText], Meta(min_length=1)]
    id: Ignored | None = None
    status: ItemStatus | None = None


class ReasoningText(RequestStruct):
    """Text of the reasoning before an earlier answer."""

    type: Literal["reasoning_text"]
    text: Text


class ReasoningItem(RequestStruct, tag_field="type", tag="reasoning"):
    """The reasoning before the answer or the calls that follow."""

    content: list[ReasoningText] | None = None
    summary: schemas.IgnoredList | None = None
    id: Ignored | None = None
    status: ItemStatus | None = None
    encrypted_content: Ignored | None = None


InputItem: TypeAlias = MessageItem | FunctionCallItem | FunctionCallOutputItem | ReasoningItem


class SchemaFormat(schemas.NamedSchema, tag_field="type", tag="json_schema", omit_defaults=True):
    """JSON that validates against a schema, which is always enforced."""


class TextConfig(RequestStruct, omit_defaults=True):
    """The format of the text."""

    format: schemas.TextFormat | schemas.JsonObjectFormat | SchemaFormat | None = None
    verbosity: None = None


class FunctionChoice(RequestStruct):
    """The function that must be called."""

    type: Literal["function"]
    name: schemas.FunctionName


class ResponsesStreamOptions(RequestStruct):
    """Accepted and ignored."""

    include_obfuscation: bool | None = None


class ResponsesRequest(RequestStruct):
    """A conversation to be answered. Null means the same as leaving a field out. Nothing is stored: the answer has
    ``"store": false``, and no later request can refer to it.
    """

    model: str
    input: Text | Annotated[list[InputItem], Meta(min_length=1, max_length=schemas.LIMITS.max_messages)]
    instructions: Text | None = None
    max_output_tokens: schemas.MaxTokens | None = None
    temperature: schemas.Temperature | None = None
    top_p: schemas.TopP | None = None
    stream: bool | None = None
    stream_options: ResponsesStreamOptions | None = None
    text: TextConfig | None = None
    tools: schemas.FlatFunctionTools | None = None
    tool_choice: Mode | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = None
    reasoning: Reasoning | None = None
    top_logprobs: schemas.TopLogprobs | None = None
    truncation: Literal["auto", "disabled"] | None = None
    store: bool | None = None
    metadata: schemas.Metadata | None = None
    user: Ignored | None = None
    safety_identifier: Ignored | None = None
    prompt_cache_key: Ignored | None = None
    service_tier: schemas.ServiceTier | None = None
