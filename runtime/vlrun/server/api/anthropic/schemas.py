"""``POST /v1/messages`` and ``/v1/messages/count_tokens``: types of their requests, as Anthropic's clients write them.

Fields of type None are known and not supported.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta

from vlrun.server.api import schemas
from vlrun.server.api.schemas import CallId, Ignored, RequestStruct, Text
from vlrun.types.turn import MAX_TOOLS

IgnoredValue: TypeAlias = Annotated[Any, Meta(description="Accepted and ignored.")]


class Block(RequestStruct, kw_only=True):
    """A part of a message. The prefix cache needs no ``cache_control``."""

    cache_control: IgnoredValue = None


class TextBlock(Block, tag_field="type", tag="text", kw_only=True):
    """Text."""

    text: Text
    citations: schemas.IgnoredList | None = None


class SystemText(Block, kw_only=True):
    """Text where nothing else may be. Outside of a union, msgspec would accept a block without its tag."""

    type: Literal["text"]
    text: Text
    citations: schemas.IgnoredList | None = None


class Base64Source(RequestStruct, tag_field="type", tag="base64"):
    """The file of an image: PNG, JPEG, WebP or BMP."""

    media_type: Annotated[str, Meta(extra_json_schema={"enum": ["image/jpeg", "image/png", "image/webp", "image/bmp"]})]
    data: Annotated[str, Meta(extra_json_schema={"pattern": f"^{schemas.BASE64}$"})]


class UrlSource(RequestStruct, tag_field="type", tag="url"):
    """An image as a data URL."""

    url: schemas.DataURL


class Transformations(RequestStruct):
    """An image that is too large is always reduced."""

    oversized_image: Literal["downsize"] = "downsize"


class ImageBlock(Block, tag_field="type", tag="image", kw_only=True):
    """An image."""

    source: Base64Source | UrlSource
    transformations: Transformations | None = None


class ToolUseBlock(Block, tag_field="type", tag="tool_use", kw_only=True):
    """A call that the model made."""

    id: CallId
    name: schemas.FunctionName
    input: dict[str, Any]
    caller: IgnoredValue = None


class ToolResultBlock(Block, tag_field="type", tag="tool_result", kw_only=True):
    """The result of a call in an earlier message."""

    tool_use_id: CallId
    content: Text | list[TextBlock | ImageBlock] | None = None
    is_error: bool | None = None


class ThinkingBlock(RequestStruct, tag_field="type", tag="thinking"):
    """The reasoning before an earlier answer."""

    thinking: Text
    signature: Ignored | None = None


class RedactedThinkingBlock(RequestStruct, tag_field="type", tag="redacted_thinking"):
    """Reasoning of another model that nobody can read. Ignored."""

    data: Ignored


UserBlock: TypeAlias = TextBlock | ImageBlock | ToolResultBlock
AssistantBlock: TypeAlias = TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock
SystemContent: TypeAlias = Text | list[SystemText]


class UserMessage(RequestStruct, tag_field="role", tag="user"):
    """Text, images and results of the user."""

    content: Text | Annotated[list[UserBlock], Meta(min_length=1)]


class AssistantMessage(RequestStruct, tag_field="role", tag="assistant"):
    """An earlier answer."""

    content: Text | Annotated[list[AssistantBlock], Meta(min_length=1)]


class SystemMessage(RequestStruct, tag_field="role", tag="system"):
    """Instructions."""

    content: SystemContent


class CustomTool(RequestStruct):
    """A function that the model may call."""

    name: schemas.FunctionName
    input_schema: dict[str, Any]
    description: Text | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: IgnoredValue = None
    input_examples: IgnoredValue = None
    defer_loading: IgnoredValue = None
    eager_input_streaming: IgnoredValue = None
    allowed_callers: IgnoredValue = None


class AutoChoice(RequestStruct, tag_field="type", tag="auto"):
    """The model may call tools."""

    disable_parallel_tool_use: bool | None = None


class AnyChoice(AutoChoice, tag_field="type", tag="any"):
    """The model must call a tool."""


class ToolChoice(AutoChoice, tag_field="type", tag="tool", kw_only=True):
    """The model must call this tool."""

    name: schemas.FunctionName


class NoChoice(RequestStruct, tag_field="type", tag="none"):
    """The model must not call tools."""


class ThinkingConfig(RequestStruct):
    """Whether a Thinking model reasons, for how many tokens, and whether the answer shows it."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: schemas.ThinkingTokens | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(RequestStruct):
    """JSON that validates against a schema, which is always enforced."""

    type: Literal["json_schema"]
    schema: dict[str, Any]
    name: Ignored | None = None


class OutputConfig(RequestStruct):
    """The format of the text. ``effort`` changes nothing."""

    format: OutputFormat | None = None
    effort: Ignored | None = None


class ContextEdit(RequestStruct):
    """Removal of earlier reasoning, which the model's template decides on."""

    type: Literal["clear_thinking_20251015"]
    keep: IgnoredValue = None


class ContextManagement(RequestStruct):
    """Changes to the conversation before it is answered."""

    edits: list[ContextEdit] | None = None


class CountTokensRequest(RequestStruct, kw_only=True):
    """A conversation whose tokens are to be counted."""

    model: str
    messages: Annotated[
        list[UserMessage | AssistantMessage | SystemMessage],
        Meta(min_length=1, max_length=schemas.LIMITS.max_messages),
    ]
    system: SystemContent | None = None
    tools: Annotated[list[CustomTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: AutoChoice | AnyChoice | ToolChoice | NoChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    context_management: ContextManagement | None = None
    mcp_servers: Annotated[list[Any], Meta(max_length=0)] | None = None
    cache_control: IgnoredValue = None
    speed: IgnoredValue = None
    user_profile_id: IgnoredValue = None
    workspace_id: IgnoredValue = None


class MessagesRequest(CountTokensRequest, kw_only=True):
    """A conversation to be answered. Null means the same as leaving a field out."""

    max_tokens: schemas.MaxTokens
    stream: bool | None = None
    stop_sequences: Annotated[list[schemas.StopString], Meta(max_length=schemas.MAX_STOP_STRINGS)] | None = None
    temperature: schemas.Temperature | None = None
    top_k: schemas.TopK | None = None
    top_p: schemas.TopP | None = None
    metadata: IgnoredValue = None
    service_tier: IgnoredValue = None
    inference_geo: IgnoredValue = None
    diagnostics: IgnoredValue = None
    container: None = None
