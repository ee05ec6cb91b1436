"""``POST /v1/chat/completions`` and ``POST /v1/tokenize``: what a request may say, as OpenAI's clients write it.

Types alone: what they mean is read in ``read_chat``. Fields of type None are known and not supported.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta

from vlrun.server.api.common_request import (
    LIMITS,
    CallId,
    ChosenFunction,
    DataURL,
    DetailWord,
    FunctionName,
    FunctionTools,
    Ignored,
    MaxTokens,
    Metadata,
    MinP,
    Penalty,
    PlainText,
    RepetitionPenalty,
    Seed,
    ServiceTier,
    Stop,
    Temperature,
    Text,
    ToolMode,
    TopK,
    TopLogprobs,
    TopP,
    Wire,
)
from vlrun.types.turn import MAX_TOOLS


class TextPart(Wire, tag_field="type", tag="text"):
    """A piece of text."""

    text: Text


class ImageURL(Wire):
    """Where an image is: in the URL itself."""

    url: DataURL
    detail: DetailWord | None = None


class ImagePart(Wire, tag_field="type", tag="image_url"):
    """An image: PNG, JPEG, WebP or BMP."""

    image_url: ImageURL


class RefusalPart(Wire, tag_field="type", tag="refusal"):
    """What another model refused with: read as text."""

    refusal: Text


TextContent: TypeAlias = Text | Annotated[list[PlainText], Meta(min_length=1)]


class SystemMessage(Wire, tag_field="role", tag="system"):
    """How the model is to answer. Stands before all others."""

    content: TextContent
    name: Ignored | None = None


class DeveloperMessage(SystemMessage, tag_field="role", tag="developer"):
    """The same as a system message."""


class UserMessage(Wire, tag_field="role", tag="user"):
    """What the user says and shows."""

    content: Text | Annotated[list[TextPart | ImagePart], Meta(min_length=1)]
    name: Ignored | None = None


class CalledFunction(Wire):
    """A function and what it was called with: the JSON text of an object."""

    name: FunctionName
    arguments: Text


class CalledTool(Wire):
    """A call that the model made."""

    id: CallId
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Wire, tag_field="role", tag="assistant"):
    """What the model said before. ``content`` may be null beside ``tool_calls`` or ``refusal``."""

    content: Text | Annotated[list[TextPart | RefusalPart], Meta(min_length=1)] | None = None
    refusal: Text | None = None
    tool_calls: Annotated[list[CalledTool], Meta(max_length=MAX_TOOLS)] | None = None
    name: Ignored | None = None
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None
    audio: None = None
    function_call: None = None


class ToolMessage(Wire, tag_field="role", tag="tool"):
    """What a tool answered to a call that an assistant's message before it made."""

    content: TextContent
    tool_call_id: CallId
    name: Ignored | None = None


ChatMessage: TypeAlias = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage
ChatMessages: TypeAlias = Annotated[list[ChatMessage], Meta(min_length=1, max_length=LIMITS.max_messages)]


class TextFormat(Wire, tag_field="type", tag="text"):
    """Plain text."""


class JsonObjectFormat(Wire, tag_field="type", tag="json_object"):
    """Any JSON object."""


class NamedSchema(Wire):
    """A JSON schema. It is always followed to the letter, as if ``strict`` were true."""

    name: FunctionName
    schema: dict[str, Any]
    description: Text | None = None
    strict: bool | None = None


class JsonSchemaFormat(Wire, tag_field="type", tag="json_schema"):
    """JSON that validates against a schema."""

    json_schema: NamedSchema


class NamedToolChoice(Wire):
    """The function that must be called."""

    type: Literal["function"]
    function: ChosenFunction


class StreamOptions(Wire):
    """What a stream tells. ``include_usage``: tokens, in a last chunk without choices; ``include_progress``: how far
    vision and prefill are, in chunks without choices (an extension); ``include_obfuscation`` is ignored.
    """

    include_usage: bool | None = None
    include_progress: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(Wire):
    """A conversation that waits for an answer. Null means the same as leaving a field out. What is not given follows
    the model's own defaults.
    """

    model: str
    messages: ChatMessages
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    n: Annotated[int, Meta(ge=1, le=LIMITS.max_n)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: RepetitionPenalty | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: FunctionTools | None = None
    tool_choice: ToolMode | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    user: Ignored | None = None
    safety_identifier: Ignored | None = None
    prompt_cache_key: Ignored | None = None
    service_tier: ServiceTier | None = None


class TokenizeRequest(Wire):
    """A conversation, or a text alone, whose tokens are to be counted: either ``messages`` or ``prompt``."""

    model: str | None = None
    messages: ChatMessages | None = None
    tools: FunctionTools | None = None
    prompt: Text | None = None
