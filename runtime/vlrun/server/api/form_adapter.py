"""``POST /api/v1/chat`` and ``/api/v1/analyze``: a form becomes a job, and what is answered a small object.

Knows multipart forms (RFC 7578), which never touch the disk here; does not know what their fields mean.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from vlrun.errors import UnsupportedMedia
from vlrun.server.api.form_parser import read_form
from vlrun.server.api.other_responses import FormAnalyzeAnswer, FormChatAnswer
from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.generation_request import GenerationRequest
from vlrun.server.limits import MIB, ServerLimits
from vlrun.types.answer import Answer

MAX_FIELDS = 16
MAX_BOUNDARY = 70
"""Characters, RFC 2046, 5.1.1."""

logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)  # it would repeat strangers' words

Shaped = Callable[[Answer], FormChatAnswer | FormAnalyzeAnswer]


class FormAdapter:
    """The words of one form's answer."""

    fields: Mapping[str, str] = {"messages": "image"}

    def __init__(self, job: GenerationRequest, shaped: Shaped) -> None:
        self.job = job
        self._shaped = shaped

    def whole(self, answers: Sequence[Answer]) -> bytes:
        """The object."""
        return msgspec.json.encode(self._shaped(answers[0]))


def read(content_type: bytes, body: bytes, shaped: Shaped, limits: ServerLimits) -> FormAdapter:
    """The voice of a form. Raises ApiError."""
    texts, image = _parsed(content_type, body, limits)
    return FormAdapter(read_form(texts, image, limits), shaped)


def with_415(error: ApiError) -> ApiError:
    """A format that is not read has a status of its own where no client expects OpenAI's."""
    return replace(error, status=415) if isinstance(error.__cause__, UnsupportedMedia) else error


def _parsed(content_type: bytes, body: bytes, limits: ServerLimits) -> tuple[dict[str, str], bytes | None]:
    """Texts by their fields, and the bytes of the file ``image``."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= MAX_BOUNDARY:
        raise bad_request("the Content-Type must be multipart/form-data with a boundary", code="invalid_form")
    texts: dict[str, str] = {}
    files: dict[str, bytes] = {}

    def on_field(field: Field) -> None:
        texts[_new(field.field_name)] = _text(field.value or b"")

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        files[_new(file.field_name)] = file.file_object.read()

    def _new(name: bytes | None) -> str:
        key = _text(name or b"")
        if key in texts or key in files or len(texts) + len(files) >= MAX_FIELDS:
            raise bad_request(f"a form has at most {MAX_FIELDS} fields, each once", code="invalid_form")
        return key

    ends: list[None] = []
    if not body:
        raise bad_request("the form is empty", code="invalid_form")
    config: dict[Any, Any] = {"MAX_MEMORY_FILE_SIZE": limits.max_body_mib * MIB, "MAX_BODY_SIZE": len(body)}
    try:
        parser = FormParser(
            "multipart/form-data", on_field, on_file, lambda: ends.append(None), boundary, config=config
        )
        parser.write(body)
        parser.finalize()
    except FormParserError:
        ends.clear()
    if not ends:
        raise bad_request("the form is damaged or cut short", code="invalid_form")
    if others := files.keys() - {"image"}:
        raise bad_request("the only file of the form is image", min(others)[:64], "unknown_parameter")
    return texts, files.get("image")


def _text(raw: bytes) -> str:
    with suppress(UnicodeDecodeError):
        text = raw.decode("utf-8")
        if "\0" not in text:
            return text
    raise bad_request("the form holds text that is no UTF-8, or has a NUL", code="invalid_form")
