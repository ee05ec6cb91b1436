"""Types of the requests, as Ollama's clients write them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta

from vlrun.server.api import fields, schemas
from vlrun.server.api.schemas import RequestStruct, Text
from vlrun.types.options import RANGES
from vlrun.types.sampling import MAX_SEED
from vlrun.types.turn import MAX_TOOLS

ModelName: TypeAlias = Annotated[str, Meta(description="The name of the model, with or without the tag `:latest`.")]
Base64Image: TypeAlias = Annotated[
    str,
    Meta(
        description="The file of an image or a PDF file in base64.",
        extra_json_schema={"contentEncoding": "base64"},
    ),
]
Images: TypeAlias = Annotated[list[Base64Image], Meta(max_length=schemas.LIMITS.max_images)]
Format: TypeAlias = Annotated[
    Annotated[str, Meta(extra_json_schema={"enum": ["", "json"]})] | dict[str, Any],
    Meta(description="`json` for any object, or a JSON schema, which is enforced."),
]
Think: TypeAlias = Annotated[
    bool | Literal["low", "medium", "high", "max"],
    Meta(description="False turns the reasoning of a Thinking model off. Levels change nothing."),
]

KeepAlive: TypeAlias = Annotated[
    float | str,
    Meta(description="Seconds, or a duration such as `5m`. Changes nothing: the model stays loaded."),
]
NumPredict: TypeAlias = Annotated[
    int,
    Meta(
        le=RANGES["max_tokens"],
        description="Length of the answer in tokens; 0 and below: the rest of the context.",
    ),
]


class ModelOptions(RequestStruct):
    """The options of an answer."""

    unused = fields.OLLAMA_OPTIONS
    num_predict: NumPredict | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_k: Annotated[int, Meta(le=2**31 - 1, description="0 and below turn it off.")] | None = None
    top_p: schemas.TopP | None = None
    min_p: schemas.MinP | None = None
    seed: Annotated[int, Meta(le=MAX_SEED, description="Below 0: not reproducible.")] | None = None
    stop: schemas.Stop | None = None
    repeat_penalty: schemas.RepetitionPenalty | None = None
    repeat_last_n: Annotated[int, Meta(description="-1 with a penalty, or 0 to turn penalties off.")] | None = None
    presence_penalty: schemas.Penalty | None = None
    frequency_penalty: schemas.Penalty | None = None


class CalledFunction(RequestStruct):
    """The called function and its arguments."""

    unused = fields.CALL
    name: schemas.FunctionName
    arguments: dict[str, Any] | None = None


class OllamaToolCall(RequestStruct):
    """A call that the model made."""

    unused = fields.OLLAMA_CALL
    function: CalledFunction


class OllamaMessage(RequestStruct):
    """A message. Its images come before its text; only users and tools have images, only the assistant calls."""

    unused = fields.OLLAMA_MESSAGE
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | None = None
    images: Images | None = None
    thinking: Text | None = None
    tool_calls: Annotated[list[OllamaToolCall], Meta(max_length=MAX_TOOLS)] | None = None


class OllamaTool(RequestStruct):
    """A function that the model may call."""

    unused = fields.TOOL
    function: schemas.Function
    type: Literal["function"] | None = None


class AnswerRequest(RequestStruct, kw_only=True):
    """The fields of all requests for an answer."""

    model: ModelName
    stream: Annotated[bool, Meta(description="True by default.")] | None = None
    format: Format | None = None
    options: ModelOptions | None = None
    think: Think | None = None
    keep_alive: KeepAlive | None = None
    logprobs: bool | None = None
    top_logprobs: schemas.TopLogprobs | None = None


class OllamaChatRequest(AnswerRequest, kw_only=True):
    """A conversation to be answered. Without messages, the request waits until the model is loaded."""

    unused = fields.OLLAMA_CHAT
    messages: Annotated[list[OllamaMessage], Meta(max_length=schemas.LIMITS.max_messages)] | None = None
    tools: Annotated[list[OllamaTool], Meta(max_length=MAX_TOOLS)] | None = None


class OllamaGenerateRequest(AnswerRequest, kw_only=True):
    """A prompt to be answered. Without prompt and images, the request waits until the model is loaded."""

    unused = fields.OLLAMA_PROMPT
    prompt: Text | None = None
    system: Text | None = None
    images: Images | None = None


class NamedModel(RequestStruct):
    """A request about a model; ``name`` is the older field for it."""

    unused = fields.OLLAMA_MODEL
    model: ModelName | None = None
    name: ModelName | None = None
