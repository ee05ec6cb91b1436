"""The smaller requests: forms of the tutorials, and counting tokens."""

from __future__ import annotations

import pytest

from tests.runtime.server.api.chat_requests import FUNCTION, TOOL, user
from vlrun.prompt.builder import DEFAULT_QUESTION
from vlrun.server.api.chat_parser import read_tokenize
from vlrun.server.api.form_parser import read_form
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import EncodedImage, GenerationRequest, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Options

NAMES = ("vlrun-tiny", "other")


def test_tokenize_takes_a_conversation_or_a_text() -> None:
    """The same messages as a chat, so that the count is that of the chat."""
    limits = ServerLimits()
    counted = read_tokenize({"messages": [user("hi")], "tools": [TOOL]}, NAMES, limits)
    assert counted == GenerationRequest(
        turns=(RequestMessage("user", ("hi",)),), tools=({"type": "function", "function": FUNCTION},)
    )
    assert read_tokenize({"prompt": "hi", "model": "other"}, NAMES, limits) == "hi"


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
        read_tokenize(value, NAMES, ServerLimits(max_text=100))
    assert (caught.value.param, caught.value.status) == (param, status)


def test_forms_are_jobs_too() -> None:
    """The tutorials' scripts send an image, perhaps a question, and texts where numbers belong."""
    job = read_form({}, b"png", ServerLimits())
    assert job.turns == (RequestMessage("user", (EncodedImage(b"png", "auto", "image"), DEFAULT_QUESTION)),)
    job = read_form({"query": "12", "max_tokens": "5", "temperature": "0.5"}, b"png", ServerLimits())
    assert job.turns[0].parts[1] == "12"
    assert job.options == Options(max_tokens=5, temperature=0.5)


@pytest.mark.parametrize("text", ["7.918117470151744e-240", "5E-1", "2e0", "0.0", "1e+0"])
def test_numbers_of_a_form_are_those_of_json(text: str) -> None:
    """Guards clients that write a float as their language does: an exponent has up to three digits."""
    assert read_form({"temperature": text}, b"png", ServerLimits()).options.temperature == float(text)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": "many"}, "max_tokens must be a whole number"),
        ({"max_tokens": "0"}, "max_tokens must lie between 1 and"),
        ({"max_tokens": "1.5"}, "max_tokens must be a whole number"),
        ({"temperature": "nan"}, "temperature must be a number"),
        ({"temperature": "1e999"}, "temperature must lie between 0 and 2"),
        ({"temperature": "3"}, "temperature must lie between 0 and 2"),
        ({"query": ""}, "query must not be empty"),
        ({"query": "x" * 101}, "more than 100 characters of text"),
        ({"image": "image.png"}, "image must be a file"),
        ({"prompt": "hi"}, "prompt is unknown"),
    ],
)
def test_wrong_forms_are_told(fields: dict[str, str], words: str) -> None:
    """A path instead of a file, a number that is none."""
    with pytest.raises(ApiError, match=words) as caught:
        read_form(fields, b"png", ServerLimits(max_text=100))
    assert (caught.value.param, caught.value.status) == (next(iter(fields)), 400)


def test_a_form_without_a_image_is_told() -> None:
    """There is nothing to answer about."""
    with pytest.raises(ApiError, match="image is missing"):
        read_form({"query": "hi"}, None, ServerLimits())
