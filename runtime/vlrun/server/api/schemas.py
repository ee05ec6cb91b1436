"""Types that several endpoints share: fields of requests with their bounds, and parts of answers.

The bounds stand in the OpenAPI document as they stand here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, TypeAlias, TypedDict

import msgspec
from msgspec import Meta, Struct

from vlrun.models.family import ToolCallFormat
from vlrun.prompt.tool_calls import ToolCallParser
from vlrun.server.limits import ServerLimits
from vlrun.types import answer as engine
from vlrun.types.options import MAX_STOP_LENGTH, MAX_STOP_STRINGS, RANGES
from vlrun.types.sampling import MAX_SEED
from vlrun.types.turn import MAX_TOOLS, ToolCall

LIMITS = ServerLimits()
"""The limits without a command-line option, which are part of the types."""


class RequestStruct(Struct, forbid_unknown_fields=True):
    """An object of a request. Unknown fields are refused."""


Text: TypeAlias = Annotated[str, Meta(max_length=LIMITS.max_text)]
# Python's "$" also matches before a trailing line feed, that of JSON Schema does not: hence the look-ahead.
FUNCTION_NAME = r"^[a-zA-Z0-9_-]{1,64}(?!\n)$"
FunctionName: TypeAlias = Annotated[str, Meta(pattern=FUNCTION_NAME)]
CallId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"
# The pattern is for the document only: `server.images` checks the URL and says what is wrong with it.
DataURL: TypeAlias = Annotated[
    str,
    Meta(
        description="An image as a base64 data URL. No URL is ever fetched.",
        extra_json_schema={"pattern": f"^data:image/(png|jpe?g|webp|bmp);base64,{BASE64}$"},
    ),
]
Detail: TypeAlias = Literal["auto", "low", "high"]
Ignored: TypeAlias = Annotated[str, Meta(max_length=LIMITS.max_text, description="Accepted and ignored.")]
IgnoredList: TypeAlias = Annotated[list[Any], Meta(description="Accepted and ignored.")]

MaxTokens: TypeAlias = Annotated[int, Meta(ge=1, le=RANGES["max_tokens"])]
Temperature: TypeAlias = Annotated[float, Meta(ge=0, le=2)]
TopP: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
TopK: TypeAlias = Annotated[int, Meta(ge=-1, le=2**31 - 1, description="0 and -1 turn it off.")]
MinP: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
RepetitionPenalty: TypeAlias = Annotated[float, Meta(ge=0.01, le=100)]
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SEED)]
TopLogprobs: TypeAlias = Annotated[int, Meta(ge=0, le=LIMITS.max_top_logprobs)]
StopString: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_STOP_LENGTH)]
Stop: TypeAlias = StopString | Annotated[list[StopString], Meta(max_length=MAX_STOP_STRINGS)]
Metadata: TypeAlias = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
ServiceTier: TypeAlias = Literal["auto", "default"]
ToolMode: TypeAlias = Literal["none", "auto", "required"]


class RefusalPart(RequestStruct, tag_field="type", tag="refusal"):
    """A refusal by another model, read as text."""

    refusal: Text


class TextFormat(RequestStruct, tag_field="type", tag="text"):
    """Plain text."""


class JsonObjectFormat(RequestStruct, tag_field="type", tag="json_object"):
    """Any JSON object."""


class NamedSchema(RequestStruct, omit_defaults=True):
    """A JSON schema. It is always enforced, as if ``strict`` were true."""

    name: FunctionName
    schema: dict[str, Any]
    description: Text | None = None
    strict: bool | None = None


class Function(RequestStruct):
    """A function that the model may call. ``strict`` is accepted and ignored."""

    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(RequestStruct):
    """A function tool of chat completions."""

    type: Literal["function"]
    function: Function


class FlatFunctionTool(Function, kw_only=True):
    """A function tool of responses."""

    type: Literal["function"]


FunctionTools: TypeAlias = Annotated[list[FunctionTool], Meta(max_length=MAX_TOOLS)]
FlatFunctionTools: TypeAlias = Annotated[list[FlatFunctionTool], Meta(max_length=MAX_TOOLS)]


class TopLogprob(TypedDict):
    """A token, the logarithm of its probability, and the bytes of its text, which may be part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of the answer with the most likely alternatives at its position."""

    top_logprobs: list[TopLogprob]


class Timings(TypedDict):
    """Seconds: image preprocessing, queue, vision, prefill, time to first token, time per further token (null for a
    single token), total. With several answers, those of the slowest.
    """

    preprocess: float
    queue: float
    vision: float
    prefill: float
    ttft: float
    tpot: float | None
    total: float


class Progress(TypedDict):
    """Progress of a phase before the first token, in tokens."""

    phase: engine.Phase
    done: int
    total: int
    percent: int


class Extension(TypedDict):
    """Extensions to OpenAI's answers: ``finish_reason`` is ``repetition`` if the answer was stopped in a loop;
    ``notes`` tell how the images were changed; ``progress`` comes before the first token.
    """

    finish_reason: NotRequired[engine.FinishReason]
    notes: NotRequired[list[str]]
    progress: NotRequired[Progress]


class Extensible(TypedDict):
    """An object that may have extensions."""

    vlrun: NotRequired[Extension]


class ErrorDetails(TypedDict):
    """An error: message, type, the path of the field in question, and a code."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    """The body of every error."""

    error: ErrorDetails


def timings(answers: Sequence[engine.Answer]) -> Timings:
    """Timings of the slowest answer."""
    slowest = max((answer.timings for answer in answers), key=lambda times: times.total)
    return msgspec.convert(vars(slowest), Timings)


def extension(answer: engine.Answer) -> Extensible:
    """Extensions of a complete answer, if it has any."""
    more: Extension = {}
    if answer.finish_reason == "repetition":
        more["finish_reason"] = "repetition"
    if answer.notes:
        more["notes"] = list(answer.notes)
    return {"vlrun": more} if more else {}


def progress(progress: engine.Progress) -> Progress:
    """Progress before the first token."""
    done, total = progress.done, progress.total
    return {"phase": progress.phase, "done": done, "total": total, "percent": 100 * done // max(total, 1)}


def top_logprob(token: engine.TokenLogprob) -> TopLogprob:
    """A token's log probability as OpenAI writes it."""
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.raw)}


def logprobs(tokens: Sequence[engine.TokenLogprob]) -> list[TokenLogprob]:
    """Log probabilities with their alternatives."""
    return [{**top_logprob(token), "top_logprobs": [top_logprob(top) for top in token.top]} for token in tokens]


class OutputSplitter:
    """Splits an answer into text and tool calls as it comes. Without ``tool_calls``, everything is text."""

    def __init__(self, tool_calls: ToolCallFormat | None) -> None:
        self._parser = ToolCallParser(tool_calls) if tool_calls else None

    def push(self, text: str, last: bool) -> list[str | ToolCall]:
        """The pieces that are complete after ``text``; all of them if it is the last one."""
        if self._parser is None:
            return [text] if text else []
        pieces = self._parser.push(text) + (self._parser.flush() if last else [])
        return [piece for piece in pieces if piece]


def split_output(text: str, tool_calls: ToolCallFormat | None) -> tuple[str | None, list[ToolCall]]:
    """The text of a whole answer (None if it consists of calls) and its tool calls."""
    pieces = OutputSplitter(tool_calls).push(text, last=True)
    calls = [piece for piece in pieces if isinstance(piece, ToolCall)]
    content = "".join(piece for piece in pieces if isinstance(piece, str))
    return (content if content or not calls else None), calls
