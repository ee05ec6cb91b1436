"""Descriptions of the model, as Ollama's clients decode them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from ollama import ListResponse, ProcessResponse, ShowResponse

from tests.runtime.server.api.test_answers import assert_documented
from vlrun import manifest
from vlrun.embedded import FOLDER
from vlrun.server.api.ollama import models
from vlrun.server.api.ollama.models import ServedModel
from vlrun.server.api_errors import ApiError, protocol_of

MODEL = ServedModel(manifest.read(FOLDER), "ab" * 32, ("tiny", "qwen3-vl:2b"), 1.8e9, 4096, thinks=False)


def sent(value: object, name: str) -> dict[str, Any]:
    received: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    assert_documented(received, name)
    return received


def test_tags_list_each_name_with_its_tag() -> None:
    """Clients look for the name that they were given, with or without `:latest`."""
    received = sent(models.tags(MODEL), "OllamaModels")
    assert [model["model"] for model in received["models"]] == ["tiny:latest", "qwen3-vl:2b"]
    listed = ListResponse(**received).models[0]
    assert listed.modified_at
    assert listed.size == sum(file.size for file in MODEL.manifest.files.values())
    assert listed.details
    assert listed.details.families == ["qwen3vl", "clip"]
    assert listed.details.quantization_level == MODEL.manifest.quantization.decoder.upper()


def test_show_has_the_context_and_the_capabilities() -> None:
    received = sent(models.show(MODEL), "OllamaModel")
    assert received["capabilities"] == ["completion", "vision", "tools"]
    assert received["model_info"]["qwen3vl.context_length"] == 4096
    assert ShowResponse(**received).modelinfo
    assert models.show(replace(MODEL, thinks=True))["capabilities"][-1] == "thinking"


def test_only_a_loaded_model_runs() -> None:
    received = sent(models.running(MODEL), "OllamaModels")
    (running,) = ProcessResponse(**received).models
    assert (running.name, running.context_length) == ("tiny:latest", 4096)
    assert models.running(replace(MODEL, context=None)) == {"models": []}
    assert models.show(replace(MODEL, context=None))["model_info"]["qwen3vl.context_length"] == 4096


def test_the_version_is_that_of_ollamas_api() -> None:
    """Clients compare it with the version that they need, such as 0.6.4."""
    version = sent(models.version(), "OllamaVersion")["version"]
    assert tuple(map(int, version.split("."))) >= (0, 12, 7)  # the first with Qwen3-VL


@pytest.mark.parametrize(
    ("count", "expected"), [(2_127_532_032, "2.1B"), (5_600_000, "5.60M"), (1_500, "1.50K"), (7, "7")]
)
def test_parameters_are_rounded(count: int, expected: str) -> None:
    assert models._rounded(count) == expected


@pytest.mark.parametrize("endpoint", models.REFUSED)
def test_refusals_name_the_endpoint(endpoint: str) -> None:
    with pytest.raises(ApiError) as caught:
        models.refuse(endpoint)
    assert caught.value.status == 400
    assert caught.value.message.startswith(f"/api/{endpoint} is not supported")


@pytest.mark.parametrize(
    ("path", "protocol"),
    [
        ("/api/chat", "ollama"),
        ("/api/nothing", "ollama"),
        ("/api/v1/chat", "openai"),
        ("/v1/chat/completions", "openai"),
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/messagesx", "openai"),
        ("/", "openai"),
    ],
)
def test_errors_have_the_format_of_the_path(path: str, protocol: str) -> None:
    assert protocol_of(path) == protocol


@pytest.mark.parametrize(
    ("path", "protocol"),
    [
        ("/v1/models/x", "anthropic"),
        ("/v1/files", "anthropic"),
        ("/v1/messages", "anthropic"),
        ("/v1/chat/completions", "openai"),
        ("/v1/completions", "openai"),
        ("/v1/responses", "openai"),
        ("/api/chat", "ollama"),
    ],
)
def test_on_paths_of_several_apis_the_clients_header_decides(path: str, protocol: str) -> None:
    """Anthropic's clients got OpenAI's errors from /v1/models/x. Proxies forward the header to the paths of others."""
    assert protocol_of(path, [(b"host", b"h"), (b"anthropic-version", b"2023-06-01")]) == protocol
    assert protocol_of(path, [(b"host", b"h"), (b"x-api-key", b"k")]) == protocol_of(path)
