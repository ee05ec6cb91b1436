"""Types that the requests of several endpoints share. Their bounds are those of the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from msgspec import Meta, Struct

from vlrun.media.video import FACTOR, MAX_FPS, MAX_FRAMES
from vlrun.server.api import fields
from vlrun.server.api.fields import UnusedFields
from vlrun.server.limits import ServerLimits
from vlrun.types.options import MAX_STOP_LENGTH, MAX_STOP_STRINGS, MAX_THINKING_TOKENS, RANGES, Detail
from vlrun.types.sampling import MAX_SEED
from vlrun.types.turn import MAX_TOOLS

LIMITS = ServerLimits()
"""The limits without a command-line option, which are part of the types."""


class RequestStruct(Struct, forbid_unknown_fields=True):
    """An object of a request. ``unused``: its fields that are ignored, or refused by name; unknown ones are refused."""

    unused: ClassVar[UnusedFields] = fields.NOTHING


Text: TypeAlias = Annotated[str, Meta(max_length=LIMITS.max_text)]
# Python's "$" also matches before a trailing line feed, that of JSON Schema does not: hence the look-ahead.
FUNCTION_NAME = r"^[a-zA-Z0-9_-]{1,64}(?!\n)$"
FunctionName: TypeAlias = Annotated[str, Meta(pattern=FUNCTION_NAME)]
CallId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"
# The pattern is for the document only: `server.images` checks the URL and says what is wrong with it.
_DATA_URL = f"data:(image/[a-z]+|application/octet-stream|application/pdf);base64,{BASE64}"
_VIDEO_URL = f"data:(video/[a-z0-9-]+|application/octet-stream);base64,{BASE64}"
_STORED = "vlrun:img_[0-9a-f]{64}(#page=[1-9][0-9]{0,3})?"
DataURL: TypeAlias = Annotated[
    str,
    Meta(
        description="An image as a base64 data URL, or the vlrun URL of a stored one. A PDF file stands for its pages; "
        "`#page=3` behind the URL of a stored one names a page. No URL is ever fetched.",
        extra_json_schema={"pattern": f"^({_DATA_URL}|{_STORED})$"},
    ),
]
NewDataURL: TypeAlias = Annotated[
    str,
    Meta(
        description="An image, a PDF file or a video as a base64 data URL.",
        extra_json_schema={"pattern": f"^({_DATA_URL}|{_VIDEO_URL})$"},
    ),
]
FileURL: TypeAlias = Annotated[
    str,
    Meta(
        description="A PDF file or an image as a base64 data URL or plain base64, or the vlrun URL of a stored one.",
        extra_json_schema={"pattern": f"^({_DATA_URL}|{_STORED}|{BASE64})$"},
    ),
]
VideoURL: TypeAlias = Annotated[
    str,
    Meta(
        description="A video as a base64 data URL, or the vlrun URL of a stored one. No URL is ever fetched.",
        extra_json_schema={"pattern": f"^({_VIDEO_URL}|vlrun:img_[0-9a-f]{{64}})$"},
    ),
]
FileName: TypeAlias = Annotated[
    str, Meta(max_length=255, description="What the prompt calls the file, if the request has several PDF files.")
]
_PAGES = "[1-9][0-9]{0,3}-?"
PagesText: TypeAlias = Annotated[
    str,
    Meta(
        max_length=200,
        description="Only these pages of a PDF file: numbers and ranges, as 1-3,7 or 5-.",
        extra_json_schema={"pattern": f"^{_PAGES}(,{_PAGES})*$"},
    ),
]

MaxTokens: TypeAlias = Annotated[int, Meta(ge=1, le=RANGES["max_tokens"])]
ThinkingTokens: TypeAlias = Annotated[
    int, Meta(ge=0, le=MAX_THINKING_TOKENS, description="Tokens of a Thinking model's reasoning.")
]
Temperature: TypeAlias = Annotated[float, Meta(ge=0, le=2)]
TopP: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
TopK: TypeAlias = Annotated[int, Meta(ge=-1, le=2**31 - 1, description="0 and -1 turn it off.")]
MinP: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
RepetitionPenalty: TypeAlias = Annotated[float, Meta(ge=0.01, le=100)]
Seed: TypeAlias = Annotated[int, Meta(ge=-MAX_SEED - 1, le=MAX_SEED, description="-1 is the same as null.")]
TopLogprobs: TypeAlias = Annotated[int, Meta(ge=0, le=LIMITS.max_top_logprobs)]
StopString: TypeAlias = Annotated[str, Meta(max_length=MAX_STOP_LENGTH, description="Ignored if empty.")]
Stop: TypeAlias = StopString | Annotated[list[StopString], Meta(max_length=MAX_STOP_STRINGS)]
Metadata: TypeAlias = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]


ImageDetail: TypeAlias = Detail | Literal["original"]
_IN_PIXELS = "[0-9]{1,5},[0-9]{1,5},[1-9][0-9]{0,4},[1-9][0-9]{0,4}"
_PLACE, _EXTENT = "[0-9]{1,3}([.][0-9]{1,3})?", "(1000|[1-9][0-9]{0,2}([.][0-9]{1,3})?)"
_IN_THOUSANDTHS = f"{_PLACE},{_PLACE},{_EXTENT},{_EXTENT}/1000"
RegionText: TypeAlias = Annotated[
    str,
    Meta(
        max_length=100,
        description="Only this part of the image: x,y,width,height in pixels, or in thousandths with /1000 at the end.",
        extra_json_schema={"pattern": f"^({_IN_PIXELS}|{_IN_THOUSANDTHS})$"},
    ),
]
Enhance: TypeAlias = Annotated[bool, Meta(description="Straighten, brighten and sharpen the image where needed.")]


class StreamOptions(RequestStruct):
    """``include_usage``: a last chunk without choices reports the tokens; ``include_progress`` (an extension): chunks
    without choices report the progress of vision and prefill.
    """

    unused = fields.STREAM_OPTIONS
    include_usage: bool | None = None
    include_progress: bool | None = None


class SampledRequest(RequestStruct, kw_only=True):
    """What requests of OpenAI's endpoints for chats and texts have in common."""

    model: str | None = None
    max_tokens: MaxTokens | None = None
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
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class InputText(RequestStruct, tag_field="type", tag="input_text"):
    """Text."""

    unused = fields.PART
    text: Text


class InputImage(RequestStruct, tag_field="type", tag="input_image"):
    """An image: PNG, JPEG, WebP, BMP, GIF, AVIF, with the extra ``heic`` HEIC. ``region`` and ``enhance`` are
    extensions.
    """

    unused = fields.IMAGE
    image_url: DataURL
    detail: ImageDetail | None = None
    region: RegionText | None = None
    enhance: Enhance | None = None


class InputFile(RequestStruct, tag_field="type", tag="input_file"):
    """A PDF file, which needs the extra ``pdf``: an image of each page. ``pages`` is an extension."""

    unused = fields.FILE
    file_data: FileURL
    filename: FileName | None = None
    pages: PagesText | None = None
    detail: ImageDetail | None = None


FramePixels: TypeAlias = Annotated[
    int, Meta(ge=FACTOR**2, le=2**24, description="Width x height of a frame as the model sees it, at most.")
]


class VideoOptions(RequestStruct, kw_only=True):
    """What is wanted of a video: by default two frames per second, and as many as this machine reads in good time."""

    detail: ImageDetail | None = None
    fps: Annotated[float, Meta(gt=0, le=MAX_FPS, description="Frames per second to sample.")] | None = None
    max_frames: Annotated[int, Meta(ge=1, le=MAX_FRAMES)] | None = None
    max_pixels: FramePixels | None = None
    start: Annotated[float, Meta(ge=0, description="Seconds from which frames are sampled.")] | None = None
    end: Annotated[float, Meta(gt=0, description="Seconds up to which frames are sampled.")] | None = None
    keyframes: (
        Annotated[bool, Meta(description="Of a fixed camera: only the frames in which something changed.")] | None
    ) = None


class RefusalPart(RequestStruct, tag_field="type", tag="refusal"):
    """A refusal by another model, read as text."""

    unused = fields.PART
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
    """A function that the model may call. If it is ``strict``, its parameters are enforced or refused."""

    unused = fields.TOOL
    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(RequestStruct):
    """A function tool of chat completions."""

    unused = fields.TOOL
    type: Literal["function"]
    function: Function


class FlatFunctionTool(Function, kw_only=True):
    """A function tool of responses."""

    type: Literal["function"]


FunctionTools: TypeAlias = Annotated[list[FunctionTool], Meta(max_length=MAX_TOOLS)]
FlatFunctionTools: TypeAlias = Annotated[list[FlatFunctionTool], Meta(max_length=MAX_TOOLS)]
