"""The tutorials' endpoints ``POST /api/v1/chat`` and ``/api/v1/analyze``: a form with an image and a question.

python_multipart parses the form (RFC 7578) in memory. Starlette's form parser would read the request itself, past the
memory budget, and spool large files to disk.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from vlrun.errors import UnsupportedMedia
from vlrun.prompt.builder import DEFAULT_QUESTION
from vlrun.server.api import schemas
from vlrun.server.api.answers import chat_usage, extension, finish_reason, timings
from vlrun.server.api.parsing import RequestParser, option_errors
from vlrun.server.api.schemas import RequestStruct
from vlrun.server.api.validation import convert
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.generation_request import EncodedImage, GenerationRequest, RequestMessage, ResponseAdapter
from vlrun.server.limits import MIB, ServerLimits
from vlrun.types.answer import Answer
from vlrun.types.options import Options

MAX_FIELDS = 16
MAX_BOUNDARY = 70
"""Characters, RFC 2046, 5.1.1."""
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,32})?(e[+-]?[0-9]{1,3})?", re.ASCII | re.IGNORECASE)

logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)  # it would log untrusted text


class FormFields(RequestStruct):
    """The fields of the form beside the file ``image``."""

    query: Annotated[schemas.Text, Meta(min_length=1, description="The question about the image.")] = DEFAULT_QUESTION
    max_tokens: Annotated[schemas.MaxTokens, Meta(examples=[128])] | UnsetType = UNSET
    temperature: Annotated[schemas.Temperature, Meta(examples=[0])] | UnsetType = UNSET


class FormAdapter(ResponseAdapter):
    """Formats the answer to a form. ``field``: its field for the text."""

    renamed_params: ClassVar[Mapping[str, str]] = {"messages": "image"}

    def __init__(self, request: GenerationRequest, field: Literal["answer", "text"]) -> None:
        super().__init__(request)
        self._field = field

    def whole(self, answers: Sequence[Answer]) -> bytes:
        """The answer as a small object."""
        (answer,) = answers
        rest = {
            "finish_reason": finish_reason(answer),
            "usage": chat_usage([answer]),
            "timings": timings([answer]),
            **extension(answer),
        }
        return msgspec.json.encode({self._field: answer.text, **rest})


def read_form(content_type: bytes, body: bytes, limits: ServerLimits) -> GenerationRequest:
    """Parse a form. Raises ApiError (400)."""
    return parse(*form_fields(content_type, body, limits), limits)


def parse(fields: Mapping[str, str], image: bytes | None, limits: ServerLimits) -> GenerationRequest:
    """The request of a form. ``image``: the bytes of its file, None if there is none. Raises ApiError (400)."""
    if "image" in fields:
        raise bad_request("image must be a file, not text", "image", "invalid_type")
    if image is None:
        raise bad_request("image is missing: send the image's file", "image", "missing_required_parameter")
    given = convert({name: _number(name, text) for name, text in fields.items()}, FormFields)
    with option_errors({}):
        options = Options(max_tokens=given.max_tokens or None, temperature=_none(given.temperature))
    query = RequestParser(limits).text(given.query, "query")
    return GenerationRequest((RequestMessage("user", (EncodedImage(image, "auto", "image"), query)),), options)


def unsupported_media_is_415(error: ApiError) -> ApiError:
    """Image formats that are not read have a status of their own here, where no client expects OpenAI's."""
    return replace(error, status=415) if isinstance(error.__cause__, UnsupportedMedia) else error


def _none(value: float | UnsetType) -> float | None:
    return None if value is UNSET else value


def _number(name: str, text: str) -> str | int | float:
    """Form fields are text: convert those that look like a JSON number."""
    if name == "query" or not _NUMBER.fullmatch(text):
        return text
    return int(text) if text.isdigit() else float(text)


def form_fields(content_type: bytes, body: bytes, limits: ServerLimits) -> tuple[dict[str, str], bytes | None]:
    """The form's texts, and the bytes of the file ``image``, None without one. Raises ApiError (400)."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= MAX_BOUNDARY:
        raise bad_request("the Content-Type must be multipart/form-data with a boundary", code="invalid_form")
    if not body:
        raise bad_request("the form is empty", code="invalid_form")
    texts: dict[str, str] = {}
    files: dict[str, bytes] = {}

    def on_field(field: Field) -> None:
        texts[new_name(field.field_name)] = _text(field.value or b"")

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        files[new_name(file.field_name)] = file.file_object.read()

    def new_name(raw: bytes | None) -> str:
        name = _text(raw or b"")
        if name in texts or name in files or len(texts) + len(files) >= MAX_FIELDS:
            raise bad_request(f"a form has at most {MAX_FIELDS} fields, each once", code="invalid_form")
        return name

    ends: list[bool] = []
    config: dict[Any, Any] = {"MAX_MEMORY_FILE_SIZE": limits.max_body_mib * MIB, "MAX_BODY_SIZE": len(body)}
    with suppress(FormParserError):
        parser = FormParser(
            "multipart/form-data", on_field, on_file, lambda: ends.append(True), boundary, config=config
        )
        parser.write(body)
        parser.finalize()
        if ends:
            if others := files.keys() - {"image"}:
                raise bad_request("the form's only file is image", min(others)[:64], "unknown_parameter")
            return texts, files.get("image")
    raise bad_request("the form is damaged or cut short", code="invalid_form")


def _text(raw: bytes) -> str:
    with suppress(UnicodeDecodeError):
        text = raw.decode("utf-8")
        if "\0" not in text:
            return text
    raise bad_request("the form holds text that is not UTF-8, or has a NUL", code="invalid_form")
