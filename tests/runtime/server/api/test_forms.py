"""Parsing of multipart forms, and the error for each invalid one."""

from __future__ import annotations

import pytest

from vlrun.prompt.builder import DEFAULT_QUESTION
from vlrun.server.api import forms
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import EncodedImage, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Options


def test_forms_become_requests() -> None:
    """Tutorial scripts send an image, perhaps a question, and numbers as text."""
    parsed = forms.parse({}, b"png", ServerLimits())
    assert parsed.messages == (RequestMessage("user", (EncodedImage(b"png", "auto", "image"), DEFAULT_QUESTION)),)
    parsed = forms.parse({"query": "12", "max_tokens": "5", "temperature": "0.5"}, b"png", ServerLimits())
    assert parsed.messages[0].parts[1] == "12"
    assert parsed.options == Options(max_tokens=5, temperature=0.5)


@pytest.mark.parametrize("text", ["7.918117470151744e-240", "5E-1", "2e0", "0.0", "1e+0"])
def test_form_numbers_have_json_notation(text: str) -> None:
    """Clients format floats as their language does, with exponents of up to three digits."""
    assert forms.parse({"temperature": text}, b"png", ServerLimits()).options.temperature == float(text)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": "many"}, "max_tokens must be a whole number"),
        ({"max_tokens": "0"}, "max_tokens must be at least 1"),
        ({"max_tokens": "1.5"}, "max_tokens must be a whole number"),
        ({"temperature": "nan"}, "temperature must be a number"),
        ({"temperature": "1e999"}, "temperature must be at most 2"),
        ({"temperature": "3"}, "temperature must be at most 2"),
        ({"query": ""}, "query must not be empty"),
        ({"query": "x" * 101}, "more than 100 characters of text"),
        ({"image": "image.png"}, "image must be a file"),
        ({"prompt": "hi"}, "prompt is unknown"),
    ],
)
def test_invalid_forms_are_refused_with_their_field(fields: dict[str, str], expected: str) -> None:
    with pytest.raises(ApiError, match=expected) as caught:
        forms.parse(fields, b"png", ServerLimits(max_text=100))
    assert (caught.value.param, caught.value.status) == (next(iter(fields)), 400)


def test_a_form_without_an_image_is_refused() -> None:
    with pytest.raises(ApiError, match="image is missing"):
        forms.parse({"query": "hi"}, None, ServerLimits())
