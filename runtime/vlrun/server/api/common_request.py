"""What the requests of several endpoints have in common: texts, names, numbers with their bounds, functions.

Types alone; their bounds stand in the OpenAPI document as they stand here. Knows neither endpoints nor the model.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from vlrun.server.limits import ServerLimits
from vlrun.types.options import MAX_STOP_LENGTH, MAX_STOP_STRINGS, RANGES
from vlrun.types.sampling import MAX_SEED
from vlrun.types.turn import MAX_TOOLS

LIMITS = ServerLimits()
"""Of those that have no option of ``vlrun serve``: they are part of the types."""

METADATA_KEYS, METADATA_KEY, METADATA_VALUE = 16, 64, 512
"""Pairs, characters of a key and of a value, as OpenAI allows them."""


class Wire(Struct, forbid_unknown_fields=True):
    """An object of a request: what is not named here is refused."""


Text: TypeAlias = Annotated[str, Meta(max_length=LIMITS.max_text)]
# The look-ahead: Python's "$" also matches before a line feed at the end, that of JSON Schema does not.
FUNCTION_NAME = r"^[a-zA-Z0-9_-]{1,64}(?!\n)$"
PATTERNS = {FUNCTION_NAME: "1 to 64 of the characters a-z, A-Z, 0-9, _ and -"}
"""What strings must be, in words."""
FunctionName: TypeAlias = Annotated[str, Meta(pattern=FUNCTION_NAME)]
CallId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"
# The pattern is for the document alone: what is wrong with a URL is told by whoever reads it.
DataURL: TypeAlias = Annotated[
    str,
    Meta(
        description="An image as a data URL in base64. No URL is ever fetched.",
        extra_json_schema={"pattern": f"^data:image/(png|jpe?g|webp|bmp);base64,{BASE64}$"},
    ),
]
DetailWord: TypeAlias = Literal["auto", "low", "high"]
Ignored: TypeAlias = Annotated[str, Meta(max_length=LIMITS.max_text, description="Accepted and ignored.")]

MaxTokens: TypeAlias = Annotated[int, Meta(ge=1, le=RANGES["max_tokens"])]
Temperature: TypeAlias = Annotated[float, Meta(ge=0, le=2)]
TopP: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
TopK: TypeAlias = Annotated[int, Meta(ge=-1, le=2**31 - 1, description="0 and -1 are off.")]
MinP: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
RepetitionPenalty: TypeAlias = Annotated[float, Meta(ge=0.01, le=100)]
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SEED)]
TopLogprobs: TypeAlias = Annotated[int, Meta(ge=0, le=LIMITS.max_top_logprobs)]
StopString: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_STOP_LENGTH)]
Stop: TypeAlias = StopString | Annotated[list[StopString], Meta(max_length=MAX_STOP_STRINGS)]

Metadata: TypeAlias = Annotated[
    dict[Annotated[str, Meta(max_length=METADATA_KEY)], Annotated[str, Meta(max_length=METADATA_VALUE)]],
    Meta(max_length=METADATA_KEYS),
]
ServiceTier: TypeAlias = Literal["auto", "default"]
ToolMode: TypeAlias = Literal["none", "auto", "required"]


class Function(Wire):
    """A function that the model may call. ``strict`` is accepted; arguments follow ``parameters`` where a call must
    come.
    """

    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Wire):
    """A function as chat completions describe it."""

    type: Literal["function"]
    function: Function


FunctionTools: TypeAlias = Annotated[list[FunctionTool], Meta(max_length=MAX_TOOLS)]


class FlatFunctionTool(Function, kw_only=True):
    """A function as responses describe it."""

    type: Literal["function"]


FlatFunctionTools: TypeAlias = Annotated[list[FlatFunctionTool], Meta(max_length=MAX_TOOLS)]


class ChosenFunction(Wire):
    """The name of the function that must be called."""

    name: FunctionName


class PlainText(Wire):
    """A piece of text, where nothing else may stand."""

    type: Literal["text"]
    text: Text
