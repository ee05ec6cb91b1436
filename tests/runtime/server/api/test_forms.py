"""The smaller requests: forms of the tutorials, and counting tokens."""

from __future__ import annotations

import pytest

from tests.runtime.server.api.chat_requests import FUNCTION, TOOL, user
from vlrun.prompt.builder import DEFAULT_QUESTION
from vlrun.server.api import forms, tokenize
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import EncodedImage, GenerationRequest, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Options

NAMES = ("vlrun-tiny", "other")


def test_tokenize_takes_a_conversation_or_a_text() -> None:
    """The same messages as a chat, so that the count is that of the chat."""
    limits = ServerLimits()
    counted = tokenize.parse({"messages": [user("hi")], "tools": [TOOL]}, NAMES, limits)
    assert counted == GenerationRequest(
        messages=(RequestMessage("user", ("hi",)),), tools=({"type": "function", "function": FUNCTION},)
    )
    assert tokenize.parse({"prompt": "hi", "model": "other"}, NAMES, limits) == "hi"


@pytest.mark.parametrize(
    ("value", "param", "status"),
    [
        ({}, "messages", 400),
        ({"prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}, "prompt", 400),
        ({"prompt": "hi", "model": "x"}, "model", 404),
        ({"prompt": "hi", "add_special_tokens": True}, "add_special_tokens", 400),
        ({"prompt": "x" * 101}, "prompt", 400),
    ],
)
def test_wrong_counts_are_told(value: object, param: str, status: int) -> None:
    """As of a chat."""
    with pytest.raises(ApiError) as caught:
        tokenize.parse(value, NAMES, ServerLimits(max_text=100))
    assert (caught.value.param, caught.value.status) == (param, status)


def test_forms_are_jobs_too() -> None:
    """The tutorials' scripts send an image, perhaps a question, and texts where numbers belong."""
    parsed = forms.parse({}, b"png", ServerLimits())
    assert parsed.messages == (RequestMessage("user", (EncodedImage(b"png", "auto", "image"), DEFAULT_QUESTION)),)
    parsed = forms.parse({"query": "12", "max_tokens": "5", "temperature": "0.5"}, b"png", ServerLimits())
    assert parsed.messages[0].parts[1] == "12"
    assert parsed.options == Options(max_tokens=5, temperature=0.5)


@pytest.mark.parametrize("text", ["7.918117470151744e-240", "5E-1", "2e0", "0.0", "1e+0"])
def test_numbers_of_a_form_are_those_of_json(text: str) -> None:
    """Guards clients that write a float as their language does: an exponent has up to three digits."""
    assert forms.parse({"temperature": text}, b"png", ServerLimits()).options.temperature == float(text)


@pytest.mark.parametrize(
    ("fields", "words"),
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
def test_wrong_forms_are_told(fields: dict[str, str], words: str) -> None:
    """A path instead of a file, a number that is none."""
    with pytest.raises(ApiError, match=words) as caught:
        forms.parse(fields, b"png", ServerLimits(max_text=100))
    assert (caught.value.param, caught.value.status) == (next(iter(fields)), 400)


def test_a_form_without_a_image_is_told() -> None:
    """There is nothing to answer about."""
    with pytest.raises(ApiError, match="image is missing"):
        forms.parse({"query": "hi"}, None, ServerLimits())
