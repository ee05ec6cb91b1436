"""Types of requests to ``/v1/messages`` and ``/v1/messages/count_tokens``, as Anthropic's clients write them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta

from vlrun.server.api import fields, schemas
from vlrun.server.api.schemas import CallId, RequestStruct, Text
from vlrun.types.turn import MAX_TOOLS


class TextBlock(RequestStruct, tag_field="type", tag="text"):
    """Text."""

    unused = fields.BLOCK
    text: Text


class SystemText(RequestStruct):
    """Text where nothing else may be. Outside of a union, msgspec would accept a block without its tag."""

    unused = fields.BLOCK
    type: Literal["text"]
    text: Text


class Base64Source(RequestStruct, tag_field="type", tag="base64"):
    """The file of an image, or a PDF file."""

    media_type: Annotated[str, Meta(extra_json_schema={"examples": ["image/jpeg"]})]
    data: Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]


class UrlSource(RequestStruct, tag_field="type", tag="url"):
    """An image or a PDF file as a data URL, or the vlrun URL of a stored one."""

    url: schemas.DataURL


class ImageBlock(RequestStruct, tag_field="type", tag="image"):
    """An image."""

    unused = fields.IMAGE_BLOCK
    source: Base64Source | UrlSource


class DocumentBlock(RequestStruct, tag_field="type", tag="document"):
    """A PDF file, which needs the extra ``pdf``: an image of each page. ``pages`` is an extension."""

    unused = fields.DOCUMENT_BLOCK
    source: Base64Source | UrlSource
    title: schemas.FileName | None = None
    pages: schemas.PagesText | None = None


class ToolUseBlock(RequestStruct, tag_field="type", tag="tool_use"):
    """A call that the model made."""

    unused = fields.TOOL_USE
    id: CallId
    name: schemas.FunctionName
    input: dict[str, Any]


class ToolResultBlock(RequestStruct, tag_field="type", tag="tool_result"):
    """The result of a call in an earlier message."""

    unused = fields.TOOL_RESULT
    tool_use_id: CallId
    content: Text | list[TextBlock | ImageBlock | DocumentBlock] | None = None
    is_error: bool | None = None


class ThinkingBlock(RequestStruct, tag_field="type", tag="thinking"):
    """The reasoning before an earlier answer."""

    unused = fields.THINKING_BLOCK
    thinking: Text


class RedactedThinkingBlock(RequestStruct, tag_field="type", tag="redacted_thinking"):
    """Reasoning of another model that nobody can read. Ignored."""

    unused = fields.REDACTED_BLOCK


UserBlock: TypeAlias = TextBlock | ImageBlock | DocumentBlock | ToolResultBlock
AssistantBlock: TypeAlias = TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock
SystemContent: TypeAlias = Text | list[SystemText]


class AnthropicUserMessage(RequestStruct, tag_field="role", tag="user"):
    """Results of calls, then text, images and documents of the user."""

    unused = fields.MESSAGE
    content: Text | Annotated[list[UserBlock], Meta(min_length=1)]


class AnthropicAssistantMessage(RequestStruct, tag_field="role", tag="assistant"):
    """An earlier answer."""

    unused = fields.MESSAGE
    content: Text | list[AssistantBlock]


class AnthropicSystemMessage(RequestStruct, tag_field="role", tag="system"):
    """Instructions."""

    unused = fields.MESSAGE
    content: SystemContent


AnthropicMessage: TypeAlias = AnthropicUserMessage | AnthropicAssistantMessage | AnthropicSystemMessage


class CustomTool(RequestStruct):
    """A function that the model may call."""

    unused = fields.ANTHROPIC_TOOL
    name: schemas.FunctionName
    input_schema: dict[str, Any]
    description: Text | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None


class AutoChoice(RequestStruct, tag_field="type", tag="auto"):
    """The model may call tools."""

    disable_parallel_tool_use: bool | None = None


class AnyChoice(RequestStruct, tag_field="type", tag="any"):
    """The model must call a tool."""

    disable_parallel_tool_use: bool | None = None


class NamedChoice(RequestStruct, tag_field="type", tag="tool"):
    """The model must call this tool."""

    name: schemas.FunctionName
    disable_parallel_tool_use: bool | None = None


class NoChoice(RequestStruct, tag_field="type", tag="none"):
    """The model must not call tools."""


class ThinkingConfig(RequestStruct):
    """Whether a Thinking model reasons, for how many tokens, and whether the answer shows it."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: schemas.ThinkingTokens | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(RequestStruct):
    """JSON that validates against a schema, which is always enforced."""

    unused = fields.OUTPUT_FORMAT
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(RequestStruct):
    """The format of the text."""

    unused = fields.OUTPUT_CONFIG
    format: OutputFormat | None = None


class CountTokensRequest(RequestStruct, kw_only=True):
    """A conversation whose tokens are to be counted. The fields that have no tokens are ignored."""

    unused = fields.MESSAGES
    model: str
    messages: Annotated[list[AnthropicMessage], Meta(min_length=1, max_length=schemas.LIMITS.max_messages)]
    system: SystemContent | None = None
    tools: Annotated[list[CustomTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: AutoChoice | AnyChoice | NamedChoice | NoChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None


class MessagesRequest(CountTokensRequest, kw_only=True):
    """A conversation to be answered. Without ``thinking``, a Thinking model answers at once."""

    max_tokens: schemas.MaxTokens
    stream: bool | None = None
    stop_sequences: Annotated[list[schemas.StopString], Meta(max_length=schemas.MAX_STOP_STRINGS)] | None = None
    temperature: schemas.Temperature | None = None
    top_k: schemas.TopK | None = None
    top_p: schemas.TopP | None = None
