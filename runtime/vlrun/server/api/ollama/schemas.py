"""Types of the requests, as Ollama's clients write them. Fields that are null count as missing, as in Ollama."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, field

from vlrun.server.api import schemas
from vlrun.server.api.schemas import Ignored, RequestStruct, Text
from vlrun.types.turn import MAX_TOOLS

ModelName: TypeAlias = Annotated[str, Meta(description="The name of the model, with or without the tag `:latest`.")]
Base64Image: TypeAlias = Annotated[
    str,
    Meta(
        description="The file of an image in base64: PNG, JPEG, WebP or BMP.",
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
IgnoredValue: TypeAlias = Annotated[Any, Meta(description="Accepted and ignored.")]


OFF = Meta(description="A sampler that is not there: 0 or 1, which turn it off.", extra_json_schema={"enum": [0, 1]})


class ModelOptions(RequestStruct, frozen=True):
    """The options of an answer. Those about loading, memory and threads are ignored: the service has its own."""

    num_predict: (
        Annotated[int, Meta(description="Length of the answer in tokens; 0 and below: the rest of the context.")] | None
    ) = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_k: Annotated[int, Meta(le=2**31 - 1)] | None = None
    top_p: schemas.TopP | None = None
    min_p: schemas.MinP | None = None
    seed: Annotated[int, Meta(le=2**63 - 1, description="Below 0: not reproducible.")] | None = None
    stop: str | list[str] | None = None
    repeat_penalty: schemas.RepetitionPenalty | None = None
    repeat_last_n: int | None = None
    presence_penalty: schemas.Penalty | None = None
    frequency_penalty: schemas.Penalty | None = None
    typical_p: Annotated[float, OFF] = 1
    tfs_z: Annotated[float, OFF] = 1
    mirostat: Annotated[int, Meta(extra_json_schema={"enum": [0]})] = 0
    mirostat_tau: IgnoredValue = None
    mirostat_eta: IgnoredValue = None
    penalize_newline: IgnoredValue = None
    num_ctx: IgnoredValue = None
    num_keep: IgnoredValue = None
    num_batch: IgnoredValue = None
    num_gpu: IgnoredValue = None
    main_gpu: IgnoredValue = None
    num_thread: IgnoredValue = None
    numa: IgnoredValue = None
    low_vram: IgnoredValue = None
    f16_kv: IgnoredValue = None
    logits_all: IgnoredValue = None
    vocab_only: IgnoredValue = None
    use_mmap: IgnoredValue = None
    use_mlock: IgnoredValue = None
    embedding_only: IgnoredValue = None


class CalledFunction(RequestStruct):
    """The called function and its arguments."""

    name: schemas.FunctionName
    arguments: dict[str, Any] = field(default_factory=dict)
    index: IgnoredValue = None


class PastToolCall(RequestStruct):
    """A call that the model made."""

    function: CalledFunction
    id: IgnoredValue = None
    type: IgnoredValue = None


class OllamaMessage(RequestStruct):
    """A message. Its images come before its text; only users and tools have images, only the assistant calls."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text = ""
    images: Images = field(default_factory=list)
    thinking: Text | None = None
    tool_calls: Annotated[list[PastToolCall], Meta(max_length=MAX_TOOLS)] = field(default_factory=list)
    tool_name: Ignored | None = None
    tool_call_id: Ignored | None = None
    name: Ignored | None = None


class OllamaTool(RequestStruct):
    """A function that the model may call."""

    function: schemas.Function
    type: Literal["function"] = "function"


class AnswerRequest(RequestStruct, kw_only=True):
    """The fields of all requests for an answer."""

    model: ModelName
    stream: bool = True
    format: Format = ""
    options: ModelOptions = ModelOptions()
    think: Think | None = None
    logprobs: bool = False
    top_logprobs: schemas.TopLogprobs = 0
    keep_alive: IgnoredValue = None
    truncate: Annotated[bool, Meta(description="Ignored: a prompt that is too long is refused.")] | None = None
    shift: Annotated[bool, Meta(description="Ignored: an answer ends where the context does.")] | None = None


class OllamaChatRequest(AnswerRequest, kw_only=True):
    """A conversation to be answered. Without messages, the request waits until the model is loaded."""

    messages: Annotated[list[OllamaMessage], Meta(max_length=schemas.LIMITS.max_messages)] = field(default_factory=list)
    tools: Annotated[list[OllamaTool], Meta(max_length=MAX_TOOLS)] = field(default_factory=list)


class OllamaGenerateRequest(AnswerRequest, kw_only=True):
    """A prompt to be answered. Without prompt and images, the request waits until the model is loaded.

    ``suffix``, ``template``, ``context``, ``raw`` and the sizes of images are known and not supported.
    """

    prompt: Text = ""
    system: Text = ""
    images: Images = field(default_factory=list)
    suffix: Annotated[str, Meta(max_length=0)] = ""
    template: Annotated[str, Meta(max_length=0)] = ""
    context: Annotated[list[int], Meta(max_length=0)] = field(default_factory=list)
    raw: Annotated[bool, Meta(extra_json_schema={"enum": [False]})] = False
    width: Annotated[int, Meta(ge=0, le=0)] = 0
    height: Annotated[int, Meta(ge=0, le=0)] = 0
    steps: Annotated[int, Meta(ge=0, le=0)] = 0


class NamedModel(RequestStruct):
    """A request about a model; ``name`` is the older field for it."""

    model: ModelName | None = None
    name: ModelName | None = None
    verbose: bool = False
    stream: bool = True
    insecure: bool = False
