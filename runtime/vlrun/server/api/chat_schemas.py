"""``POST /v1/chat/completions``: types of its requests, as OpenAI's clients write them.

Fields of type None are known and not supported.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta

from vlrun.server.api import schemas
from vlrun.server.api.schemas import CallId, Ignored, RequestStruct, Text
from vlrun.server.api.thinking import Effort, TemplateArguments, Thinking
from vlrun.types.options import Detail
from vlrun.types.turn import MAX_TOOLS, Mode


class TextPart(RequestStruct, tag_field="type", tag="text"):
    """Text."""

    text: Text


class ImageURL(RequestStruct):
    """An image in a data URL."""

    url: schemas.DataURL
    detail: Detail | None = None


class ImagePart(RequestStruct, tag_field="type", tag="image_url"):
    """An image: PNG, JPEG, WebP, BMP or GIF."""

    image_url: ImageURL


class PlainText(RequestStruct):
    """Text where nothing else may be. Outside of a union, msgspec would accept a part without its tag."""

    type: Literal["text"]
    text: Text


TextContent: TypeAlias = Text | Annotated[list[PlainText], Meta(min_length=1)]


class SystemMessage(RequestStruct, tag_field="role", tag="system"):
    """Instructions. Must come before all other messages."""

    content: TextContent
    name: Ignored | None = None


class DeveloperMessage(SystemMessage, tag_field="role", tag="developer"):
    """The same as a system message."""


class UserMessage(RequestStruct, tag_field="role", tag="user"):
    """Text and images of the user."""

    content: Text | Annotated[list[TextPart | ImagePart], Meta(min_length=1)]
    name: Ignored | None = None


class FunctionCall(RequestStruct):
    """The called function and its arguments, the JSON text of an object."""

    name: schemas.FunctionName
    arguments: Text


class PastToolCall(RequestStruct):
    """A call that the model made. ``index`` is ignored: clients that collect a stream send it back."""

    id: CallId
    type: Literal["function"]
    function: FunctionCall
    index: int | None = None


class AssistantMessage(RequestStruct, tag_field="role", tag="assistant"):
    """An earlier answer. ``content`` may be null beside ``tool_calls``, ``refusal`` or ``reasoning_content``."""

    content: Text | Annotated[list[TextPart | schemas.RefusalPart], Meta(min_length=1)] | None = None
    refusal: Text | None = None
    reasoning_content: Text | None = None
    tool_calls: Annotated[list[PastToolCall], Meta(max_length=MAX_TOOLS)] | None = None
    name: Ignored | None = None
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None
    audio: None = None
    function_call: None = None


class ToolMessage(RequestStruct, tag_field="role", tag="tool"):
    """The result of a call in an earlier assistant message."""

    content: TextContent
    tool_call_id: CallId
    name: Ignored | None = None


ChatMessage: TypeAlias = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage
ChatMessages: TypeAlias = Annotated[list[ChatMessage], Meta(min_length=1, max_length=schemas.LIMITS.max_messages)]


class JsonSchemaFormat(RequestStruct, tag_field="type", tag="json_schema"):
    """JSON that validates against a schema."""

    json_schema: schemas.NamedSchema


class ChosenFunction(RequestStruct):
    """The name of a function."""

    name: schemas.FunctionName


class NamedToolChoice(RequestStruct):
    """The function that must be called."""

    type: Literal["function"]
    function: ChosenFunction


class StreamOptions(RequestStruct):
    """``include_usage``: a last chunk without choices reports the tokens; ``include_progress`` (an extension): chunks
    without choices report the progress of vision and prefill; ``include_obfuscation`` is ignored.
    """

    include_usage: bool | None = None
    include_progress: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(RequestStruct):
    """A conversation to be answered. Null means the same as leaving a field out: the model's default applies."""

    model: str
    messages: ChatMessages
    max_tokens: schemas.MaxTokens | None = None
    max_completion_tokens: schemas.MaxTokens | None = None
    temperature: schemas.Temperature | None = None
    top_p: schemas.TopP | None = None
    top_k: schemas.TopK | None = None
    min_p: schemas.MinP | None = None
    seed: schemas.Seed | None = None
    stop: schemas.Stop | None = None
    n: Annotated[int, Meta(ge=1, le=schemas.LIMITS.max_n)] | None = None
    presence_penalty: schemas.Penalty | None = None
    frequency_penalty: schemas.Penalty | None = None
    repetition_penalty: schemas.RepetitionPenalty | None = None
    response_format: schemas.TextFormat | schemas.JsonObjectFormat | JsonSchemaFormat | None = None
    logprobs: bool | None = None
    top_logprobs: schemas.TopLogprobs | None = None
    thinking_token_budget: schemas.ThinkingTokens | None = None
    reasoning_effort: Effort | None = None
    enable_thinking: bool | None = None
    thinking: Thinking | None = None
    chat_template_kwargs: TemplateArguments | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: schemas.FunctionTools | None = None
    tool_choice: Mode | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None
    store: bool | None = None
    metadata: schemas.Metadata | None = None
    user: Ignored | None = None
    safety_identifier: Ignored | None = None
    prompt_cache_key: Ignored | None = None
    service_tier: schemas.ServiceTier | None = None
