"""``POST /v1/chat/completions``: types of its requests, as OpenAI's clients write them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from vlrun.server.api import fields, schemas
from vlrun.server.api.schemas import CallId, RequestStruct, Text
from vlrun.server.api.thinking import Effort, Reasoning, TemplateArguments, Thinking
from vlrun.tasks.definition import MAX_NAME_LENGTH, MAX_NAMES, Language
from vlrun.tasks.request import MAX_VOTES
from vlrun.types.turn import MAX_TOOLS, Mode


class TextPart(RequestStruct, tag_field="type", tag="text"):
    """Text."""

    unused = fields.PART
    text: Text


class ImageURL(RequestStruct):
    """An image in a data URL. ``region`` and ``enhance`` are extensions."""

    unused = fields.IMAGE
    url: schemas.DataURL
    detail: schemas.ImageDetail | None = None
    region: schemas.RegionText | None = None
    enhance: schemas.Enhance | None = None


class ImagePart(RequestStruct, tag_field="type", tag="image_url"):
    """An image: PNG, JPEG, WebP, BMP, GIF, AVIF, with the extra ``heic`` HEIC."""

    unused = fields.PART
    image_url: ImageURL | schemas.DataURL


class FileData(RequestStruct):
    """A PDF file. ``pages`` and ``detail`` are extensions."""

    unused = fields.FILE
    file_data: schemas.FileURL
    filename: schemas.FileName | None = None
    pages: schemas.PagesText | None = None
    detail: schemas.ImageDetail | None = None


class FilePart(RequestStruct, tag_field="type", tag="file"):
    """A PDF file, which needs the extra ``pdf``: an image of each page."""

    unused = fields.PART
    file: FileData


class VideoData(schemas.VideoOptions, kw_only=True):
    """A video in a data URL."""

    unused = fields.VIDEO
    url: schemas.VideoURL


class VideoURLPart(RequestStruct, tag_field="type", tag="video_url"):
    """A video, which needs the extra ``video``, as vLLM's clients write it. An extension."""

    unused = fields.PART
    video_url: VideoData | schemas.VideoURL


class VideoPart(schemas.VideoOptions, tag_field="type", tag="video", kw_only=True):
    """A video, which needs the extra ``video``, as some clients write it. An extension."""

    unused = fields.PART
    video: schemas.VideoURL


TextContent: TypeAlias = Text | Annotated[list[Text | TextPart | schemas.InputText], Meta(min_length=1)]
ContentPart: TypeAlias = (
    Text
    | TextPart
    | ImagePart
    | FilePart
    | VideoURLPart
    | VideoPart
    | schemas.InputText
    | schemas.InputImage
    | schemas.InputFile
)


class SystemMessage(RequestStruct, tag_field="role", tag="system"):
    """Instructions. The first ones are joined; later ones keep their place."""

    unused = fields.MESSAGE
    content: TextContent


class DeveloperMessage(SystemMessage, tag_field="role", tag="developer"):
    """The same as a system message."""


class UserMessage(RequestStruct, tag_field="role", tag="user"):
    """Text and images of the user."""

    unused = fields.MESSAGE
    content: Text | Annotated[list[ContentPart], Meta(min_length=1)]


class FunctionCall(RequestStruct):
    """The called function and its arguments, the JSON text of an object; empty for none."""

    unused = fields.CALL
    name: schemas.FunctionName
    arguments: Text | None = None


class PastToolCall(RequestStruct):
    """A call that the model made."""

    unused = fields.CALL
    id: CallId
    function: FunctionCall
    type: Literal["function"] | None = None


class AssistantMessage(RequestStruct, tag_field="role", tag="assistant"):
    """An earlier answer. ``reasoning`` is another name of ``reasoning_content``."""

    unused = fields.ASSISTANT
    content: Text | list[Text | TextPart | schemas.RefusalPart] | None = None
    refusal: Text | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None
    tool_calls: Annotated[list[PastToolCall], Meta(max_length=MAX_TOOLS)] | None = None


class ToolMessage(RequestStruct, tag_field="role", tag="tool"):
    """The result of a call in an earlier assistant message: text and images."""

    unused = fields.MESSAGE
    tool_call_id: CallId
    content: Text | list[ContentPart] | None = None


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


TaskName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=100, description="One of `vlrun tasks`.")]
Names: TypeAlias = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]], Meta(max_length=MAX_NAMES)
]
TilesText: TypeAlias = Annotated[
    str,
    Meta(
        max_length=20,
        description="COLUMNSxROWS: ask about each tile of the image, and merge the answers.",
        extra_json_schema={"pattern": r"^(1x[2-8]|2x[1-8]|3x[1-5]|4x[1-4]|5x[1-3]|[678]x[12])$"},  # ``media.region``
    ),
]


class ChatExtensions(RequestStruct):
    """What vlrun can do beyond OpenAI's fields: a task, or the question of the message, answered once or several times.
    ``items`` is what the task counts or locates, ``fields`` what it extracts. ``steps`` asks for the reasoning first.
    """

    task: TaskName | None = None
    items: Names | None = None
    fields: Names | None = None
    votes: Annotated[int, Meta(ge=1, le=MAX_VOTES, description="Number of answers; the majority wins.")] | None = None
    tiles: TilesText | None = None
    steps: bool | None = None
    heatmap: Annotated[bool, Meta(description="Return what each token of the answer attended to.")] | None = None
    language: (
        Annotated[Language, Meta(description="Of the task's prompt; by default that of the question and the names.")]
        | None
    ) = None


class ChatRequest(schemas.SampledRequest, kw_only=True):
    """A conversation to be answered. Null means the same as leaving a field out: the model's default applies. Without
    ``model`` the served one answers.
    """

    unused = fields.CHAT
    messages: ChatMessages
    max_completion_tokens: schemas.MaxTokens | None = None
    response_format: schemas.TextFormat | schemas.JsonObjectFormat | JsonSchemaFormat | None = None
    logprobs: bool | None = None
    top_logprobs: schemas.TopLogprobs | None = None
    thinking_token_budget: schemas.ThinkingTokens | None = None
    reasoning_effort: Effort | None = None
    reasoning: Reasoning | None = None
    enable_thinking: bool | None = None
    thinking: Thinking | None = None
    chat_template_kwargs: TemplateArguments | None = None
    tools: schemas.FunctionTools | None = None
    tool_choice: Mode | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    vlrun: ChatExtensions | None = None
