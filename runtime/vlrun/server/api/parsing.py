"""Parts of requests that all endpoints parse alike: model name, texts, images, functions, schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from vlrun.errors import OptionError
from vlrun.media.page_ranges import parse_pages
from vlrun.media.region import Region, parse_region
from vlrun.media.video import Video
from vlrun.server.api import schemas, strict_json
from vlrun.server.api.validation import quoted
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.generation_request import EncodedImage
from vlrun.server.images import from_data_url
from vlrun.server.limits import ServerLimits
from vlrun.types.sampling import MAX_SEED
from vlrun.types.turn import Mode, Tool, ToolCall, ToolChoice

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.ASCII | re.IGNORECASE)
PLAIN_OPTIONS = ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
"""Options of `Options` that requests have under the same name, with the same values."""


def check_model(model: str | None, names: Sequence[str]) -> None:
    """Raise ApiError (404) unless this model is served. None: the served one, whatever its name."""
    if model is not None and model not in names:
        raise ApiError(404, f"the model {quoted(model)} is not served here", "model_not_found", "model")


@contextmanager
def option_errors(renamed: Mapping[str, str]) -> Iterator[None]:
    """Turn an OptionError of the block into an ApiError (400). ``renamed``: the request's fields by option name, where
    they differ.
    """
    try:
        yield
    except OptionError as error:
        option = error.message.partition(" ")[0]  # messages begin with the option's name
        raise bad_request(error.message, renamed.get(option, option)) from None


def sampling(body: schemas.SampledRequest) -> dict[str, Any]:
    """How the answer's tokens are chosen and where it ends, as `Options` have it."""
    plain = {name: getattr(body, name) for name in PLAIN_OPTIONS}
    top_k = 0 if body.top_k == -1 else body.top_k
    return {**plain, "top_k": top_k, "seed": parse_seed(body.seed), "stop": stop_strings(body.stop)}


def stop_strings(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """The strings that end an answer. Empty ones, which some clients send for none, are left out."""
    given = (stop,) if isinstance(stop, str) else stop or ()
    return tuple(text for text in given if text)


def parse_seed(seed: int | None) -> int | None:
    """The seed within the range of `Options`; None for -1, which some clients send for none."""
    return None if seed in (None, -1) else seed % (MAX_SEED + 1)


def parse_tool_choice(mode: Mode | None, name: str | None, parallel: bool | None, tools: Sequence[Tool]) -> ToolChoice:
    """``name``: the function that must be called. Raises ApiError (400) for one that is not among the tools."""
    names = [tool["function"]["name"] for tool in tools]  # type: ignore[index] # as `RequestParser.tool` makes them
    if name is not None and name not in names:
        raise bad_request(f"tool_choice names {quoted(name)}, which is not among the tools", "tool_choice")
    if mode == "required" and not tools:
        raise bad_request("tool_choice is required, but there are no tools", "tool_choice")
    return ToolChoice(mode or ("auto" if name is None else "required"), name, parallel is not False)


def _region(text: str | None, param: str) -> Region | None:
    """The region of an image; ``param`` is the path of its URL."""
    try:
        return None if text is None else parse_region(text)
    except OptionError as error:
        raise bad_request(error.message, f"{param.rpartition('.')[0]}.region") from None


class RequestParser:
    """Parses one request: counts its characters and images, and remembers its tool calls.

    Methods raise ApiError (400); ``param`` is the path of the field.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.limits = limits
        self._characters = 0
        self._images = 0
        self._calls: set[str] = set()
        self._functions: set[str] = set()

    def text(self, text: str, param: str) -> str:
        """Text of a user, the model or a tool."""
        self._count(len(text), param)
        return text

    def image(
        self,
        url: str,
        detail: schemas.ImageDetail | None,
        param: str,
        region: str | None = None,
        enhance: bool | None = None,
    ) -> EncodedImage:
        """An image in a data URL. The highest detail is the nearest to that of the original."""
        self._images += 1
        if self._images > self.limits.max_images:
            raise bad_request(f"a request may have at most {self.limits.max_images} images", param, "too_many_images")
        image = from_data_url(url, "high" if detail == "original" else detail or "auto", param)
        return replace(image, region=_region(region, param), enhance=enhance is True)

    def file(
        self,
        data: str,
        detail: schemas.ImageDetail | None,
        param: str,
        pages: str | None,
        name: str | None,
        place: str,
    ) -> EncodedImage:
        """A PDF file or an image: in a data URL, or as base64. ``place``: the path of the object with ``pages``."""
        file = self.image(data if _SCHEME.match(data) else f"data:;base64,{data}", detail, param)
        if name:
            self._count(len(name), param)
        if pages is None:
            return replace(file, name=name or "")
        if file.pages is not None:
            raise bad_request("the URL names a page already: leave out pages", f"{place}.pages")
        try:
            parse_pages(pages)
        except OptionError as error:
            raise bad_request(f"{place}.pages: {error.message}", f"{place}.pages") from None
        return replace(file, pages=pages, name=name or "")

    def video(self, url: str, wanted: schemas.VideoOptions, param: str) -> EncodedImage:
        """A video in a data URL."""
        file = self.image(url, wanted.detail, param)
        given = (wanted.fps, wanted.max_frames, wanted.max_pixels, wanted.start, wanted.end)
        try:
            video = Video(b"", *given, keyframes=wanted.keyframes is True)
        except OptionError as error:
            raise bad_request(error.message, f"{param.rpartition('.')[0]}.end") from None
        return replace(file, video=video)

    def call(self, call_id: str, name: str, arguments: str | None, param: str) -> ToolCall:
        """A call that the model made; ``param`` is the path of the arguments, which are empty for a call without."""
        self._calls.add(call_id)
        arguments = arguments if arguments and arguments.strip() else "{}"
        self._count(len(name) + len(arguments), param)
        try:
            value = strict_json.parse(arguments.encode(), self.limits)
        except (ApiError, UnicodeError):
            value = None
        if not isinstance(value, dict):
            raise bad_request(f"{param} must be the JSON text of an object", param)
        return ToolCall(name, arguments)

    def check_result(self, call_id: str, param: str) -> None:
        """Check that a tool result belongs to an earlier call."""
        if call_id not in self._calls:
            raise bad_request(f"{param} is not the id of an earlier call", param)

    def schema(self, schema: Mapping[str, Any], param: str) -> Mapping[str, Any]:
        """A JSON schema."""
        if len(json.dumps(schema, ensure_ascii=False).encode()) > self.limits.max_schema_bytes:
            raise bad_request(f"{param} is larger than {self.limits.max_schema_bytes} bytes", param)
        return schema

    def tool(self, function: schemas.Function, param: str) -> Tool:
        """A function that the model may call; ``param`` is the path of its object."""
        if function.name in self._functions:
            raise bad_request(f"{param}.name is taken by another function", f"{param}.name")
        self._functions.add(function.name)
        description: dict[str, Any] = {"name": self.text(function.name, f"{param}.name")}
        if function.description is not None:
            description["description"] = self.text(function.description, f"{param}.description")
        if function.parameters is not None:
            description["parameters"] = self.schema(function.parameters, f"{param}.parameters")
            self._count(len(json.dumps(function.parameters, ensure_ascii=False)), f"{param}.parameters")
        if function.strict:
            description["strict"] = True
        return {"type": "function", "function": description}

    def _count(self, characters: int, param: str) -> None:
        self._characters += characters
        if self._characters > self.limits.max_text:
            raise bad_request(f"the request has more than {self.limits.max_text} characters of text", param)
