"""The tutorials' endpoints, ``POST /api/v1/chat`` and ``POST /api/v1/analyze``: a form with an image and a question.

Knows the form's fields; knows neither multipart nor the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, TypeVar

from msgspec import UNSET, Meta, UnsetType

from vlrun.prompt.builder import DEFAULT_QUESTION
from vlrun.server.api.common_request import MaxTokens, Temperature, Text, Wire
from vlrun.server.api.request_parser import Reader, options_within, read_as
from vlrun.server.api.unsupported import FORM
from vlrun.server.api_errors import bad_request
from vlrun.server.generation_request import EncodedImage, GenerationRequest, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Options

T = TypeVar("T")

Query = Annotated[Text, Meta(min_length=1, description="The question about the image.")]

_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,32})?(e[+-]?[0-9]{1,3})?", re.ASCII | re.IGNORECASE)
"""As JSON has it, within the length that any number here may need."""


class FormFields(Wire):
    """The fields of the form beside the image's file, ``image``."""

    query: Query = DEFAULT_QUESTION
    max_tokens: MaxTokens | UnsetType = UNSET
    temperature: Temperature | UnsetType = UNSET


def read_form(fields: Mapping[str, str], image: bytes | None, limits: ServerLimits) -> GenerationRequest:
    """A form as a job. ``fields``: its texts; ``image``: the bytes of its file, None if there is none.

    Raises ApiError (400) for whatever is wrong, with the field.
    """
    if "image" in fields:
        raise bad_request("image must be a file, not a text", "image", "invalid_type")
    if image is None:
        raise bad_request("image is missing: send the image's file", "image", "missing_required_parameter")
    given = read_as({name: _plain(name, text) for name, text in fields.items()}, FormFields, FORM)
    with options_within({}):
        options = Options(max_tokens=_given(given.max_tokens), temperature=_given(given.temperature))
    query = Reader(limits).text(given.query, "query")
    return GenerationRequest(
        turns=(RequestMessage("user", (EncodedImage(image, "auto", "image"), query)),), options=options
    )


def _given(value: T | UnsetType) -> T | None:
    return None if isinstance(value, UnsetType) else value


def _plain(name: str, text: str) -> str | int | float:
    """A form knows texts only: numbers where numbers belong."""
    if name == "query" or not _NUMBER.fullmatch(text):
        return text
    return int(text) if text.isdigit() else float(text)
