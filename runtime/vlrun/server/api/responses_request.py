"""``POST /v1/responses``, its common subset: what a request may say, as OpenAI's clients write it.

Types alone: what they mean is read in ``read_responses``. Fields of type None are known and not supported. Items may be
those of an earlier answer as they came; what they tell beyond the conversation is ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta

from vlrun.server.api.common_request import (
    LIMITS,
    CallId,
    DataURL,
    DetailWord,
    FlatFunctionTools,
    FunctionName,
    Ignored,
    MaxTokens,
    Metadata,
    ServiceTier,
    Temperature,
    Text,
    ToolMode,
    TopLogprobs,
    TopP,
    Wire,
)

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]


class InputText(Wire, tag_field="type", tag="input_text"):
    """A piece of text."""

    text: Text


class InputImage(Wire, tag_field="type", tag="input_image"):
    """An image: PNG, JPEG, WebP or BMP."""

    image_url: DataURL
    detail: DetailWord | None = None
    file_id: None = None


class OutputText(Wire, tag_field="type", tag="output_text"):
    """A piece of what the model said before."""

    text: Text
    annotations: Annotated[list[Any], Meta(description="Accepted and ignored.")] | None = None
    logprobs: Annotated[list[Any], Meta(description="Accepted and ignored.")] | None = None


class Refusal(Wire, tag_field="type", tag="refusal"):
    """What another model refused with: read as text."""

    refusal: Text


class MessageItem(Wire, tag_field="type", tag="message"):
    """A turn. Images stand in those of the user; ``output_text`` and ``refusal`` in those of the assistant."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Annotated[list[InputText | InputImage | OutputText | Refusal], Meta(min_length=1)]
    id: Ignored | None = None
    status: ItemStatus | None = None
    phase: Ignored | None = None


class FunctionCallItem(Wire, tag_field="type", tag="function_call"):
    """A call that the model made. ``arguments``: the JSON text of an object."""

    call_id: CallId
    name: FunctionName
    arguments: Text
    id: Ignored | None = None
    status: ItemStatus | None = None
    namespace: None = None


class FunctionCallOutputItem(Wire, tag_field="type", tag="function_call_output"):
    """What a tool answered to a call before it."""

    call_id: CallId
    output: Text
    id: Ignored | None = None
    status: ItemStatus | None = None


InputItem: TypeAlias = MessageItem | FunctionCallItem | FunctionCallOutputItem


class PlainFormat(Wire, tag_field="type", tag="text"):
    """Plain text."""


class ObjectFormat(Wire, tag_field="type", tag="json_object"):
    """Any JSON object."""


class SchemaFormat(Wire, tag_field="type", tag="json_schema", omit_defaults=True):
    """JSON that validates against a schema. It is always followed to the letter, as if ``strict`` were true."""

    name: FunctionName
    schema: dict[str, Any]
    description: Text | None = None
    strict: bool | None = None


class TextConfig(Wire, omit_defaults=True):
    """What the text looks like."""

    format: PlainFormat | ObjectFormat | SchemaFormat | None = None
    verbosity: None = None


class FunctionChoice(Wire):
    """The function that must be called."""

    type: Literal["function"]
    name: FunctionName


class ResponsesStreamOptions(Wire):
    """Accepted and ignored."""

    include_obfuscation: bool | None = None


class ResponsesRequest(Wire):
    """A conversation that waits for an answer. Null means the same as leaving a field out. Nothing is kept: an answer
    says ``"store": false`` whatever was asked, and no later request can refer to it.
    """

    model: str
    input: Text | Annotated[list[InputItem], Meta(min_length=1, max_length=LIMITS.max_messages)]
    instructions: Text | None = None
    max_output_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    stream: bool | None = None
    stream_options: ResponsesStreamOptions | None = None
    text: TextConfig | None = None
    tools: FlatFunctionTools | None = None
    tool_choice: ToolMode | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    include: list[Literal["message.output_text.logprobs"]] | None = None
    top_logprobs: TopLogprobs | None = None
    truncation: Literal["disabled"] | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    user: Ignored | None = None
    safety_identifier: Ignored | None = None
    prompt_cache_key: Ignored | None = None
    service_tier: ServiceTier | None = None
