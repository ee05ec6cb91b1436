"""``POST /v1/responses``, the common subset: types of its requests, as OpenAI's clients write them.

Items of an earlier answer are accepted unchanged.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from vlrun.server.api import fields, schemas
from vlrun.server.api.schemas import CallId, RequestStruct, Text
from vlrun.server.api.thinking import Reasoning
from vlrun.types.turn import Mode

Include: TypeAlias = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]
"""Only the log probabilities exist here: there are no such tools, and the reasoning is not encrypted."""


class OutputText(RequestStruct, tag_field="type", tag="output_text"):
    """Text of an earlier answer."""

    unused = fields.OUTPUT_TEXT
    text: Text


Input: TypeAlias = schemas.InputText | schemas.InputImage | schemas.InputFile
Content: TypeAlias = Input | OutputText | schemas.RefusalPart


class MessageItem(RequestStruct, tag_field="type", tag="message"):
    """A message. Only user messages have images and files; ``output_text`` and ``refusal`` belong to the assistant."""

    unused = fields.MESSAGE | fields.ITEM
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Annotated[list[Content], Meta(min_length=1)]


class FunctionCallItem(RequestStruct, tag_field="type", tag="function_call"):
    """A call that the model made. ``arguments``: the JSON text of an object; empty for none."""

    unused = fields.CALL | fields.ITEM
    call_id: CallId
    name: schemas.FunctionName
    arguments: Text | None = None


class FunctionCallOutputItem(RequestStruct, tag_field="type", tag="function_call_output"):
    """The result of an earlier call: text, images and PDF files."""

    unused = fields.ITEM
    call_id: CallId
    output: Text | list[Input]


class ReasoningText(RequestStruct):
    """Text of the reasoning before an earlier answer."""

    unused = fields.PART
    type: Literal["reasoning_text"]
    text: Text


class ReasoningItem(RequestStruct, tag_field="type", tag="reasoning"):
    """The reasoning before the answer or the calls that follow."""

    unused = fields.REASONING_ITEM
    content: list[ReasoningText] | None = None


InputItem: TypeAlias = MessageItem | FunctionCallItem | FunctionCallOutputItem | ReasoningItem


class SchemaFormat(schemas.NamedSchema, tag_field="type", tag="json_schema", omit_defaults=True):
    """JSON that validates against a schema, which is always enforced."""


class TextConfig(RequestStruct, omit_defaults=True):
    """The format of the text."""

    unused = fields.TEXT
    format: schemas.TextFormat | schemas.JsonObjectFormat | SchemaFormat | None = None


class FunctionChoice(RequestStruct):
    """The function that must be called."""

    type: Literal["function"]
    name: schemas.FunctionName


class ResponsesStreamOptions(RequestStruct):
    """All of them are ignored."""

    unused = fields.STREAM_OPTIONS


class ResponsesRequest(RequestStruct):
    """A conversation to be answered. Null means the same as leaving a field out. Nothing is stored: the answer has
    ``"store": false``, and no later request can refer to it.
    """

    unused = fields.RESPONSES
    input: Text | Annotated[list[InputItem], Meta(min_length=1, max_length=schemas.LIMITS.max_messages)]
    model: str | None = None
    instructions: Text | None = None
    max_output_tokens: schemas.MaxTokens | None = None
    temperature: schemas.Temperature | None = None
    top_p: schemas.TopP | None = None
    presence_penalty: schemas.Penalty | None = None
    frequency_penalty: schemas.Penalty | None = None
    stream: bool | None = None
    stream_options: ResponsesStreamOptions | None = None
    text: TextConfig | None = None
    tools: schemas.FlatFunctionTools | None = None
    tool_choice: Mode | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    include: list[Include] | None = None
    reasoning: Reasoning | None = None
    top_logprobs: schemas.TopLogprobs | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: schemas.Metadata | None = None
