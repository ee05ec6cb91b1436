"""The OpenAPI 3.1 document of the service: made of the types that read requests and write answers, so that it says what
they do.

Knows how msgspec describes types, and where a type says less than the service does. Serves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import msgspec

import vlrun
from vlrun.server.api import other_responses as answers_other
from vlrun.server.api.chat_request import ChatRequest, TokenizeRequest
from vlrun.server.api.chat_response import ChatCompletion, ChatCompletionChunk
from vlrun.server.api.form_parser import FormFields
from vlrun.server.api.openapi_paths import SCHEMAS, error_responses, paths
from vlrun.server.api.responses_request import ResponsesRequest
from vlrun.server.api.responses_response import Response
from vlrun.server.api.responses_stream import Event
from vlrun.server.limits import ServerLimits

Json: TypeAlias = dict[str, Any]

TYPES = (
    ChatRequest,
    ChatCompletion,
    ChatCompletionChunk,
    ResponsesRequest,
    Response,
    Event,
    TokenizeRequest,
    answers_other.TokenCount,
    answers_other.Models,
    FormFields,
    answers_other.FormChatAnswer,
    answers_other.FormAnalyzeAnswer,
    answers_other.Alive,
    answers_other.Readiness,
    answers_other.ErrorBody,
)
"""What the paths refer to."""
TAGS = (
    ("chat", "Answers to conversations with images, as OpenAI's clients ask for them"),
    ("models", "What is served, and how it counts"),
    ("forms", "An image and a question as a form"),
    ("service", "How the service is doing"),
)


def document(limits: ServerLimits, model: str, keyed: bool) -> Json:
    """The document. ``model``: the name that the service calls its model by; ``keyed``: API keys are needed."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vlrun",
            "version": vlrun.__version__,
            "summary": "Questions about images",
            "description": _description(limits),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": words} for name, words in TAGS],
        "paths": paths(model, keyed),
        "components": _components(model, keyed),
        **({"security": [{"bearer": []}]} if keyed else {}),
    }


def _description(limits: ServerLimits) -> str:
    """What there is to know before the first request."""
    return f"""One vision-language model behind the words of OpenAI's API. Unknown fields are refused by name; images
come as data URLs or files, and no URL is ever fetched.

Limits of one request: {limits.max_body_mib} MiB; {limits.max_images} images, each of at most
{limits.max_megapixels} megapixels, together of {limits.request_megapixels}; {limits.max_messages} messages;
{limits.max_text} characters of text; {limits.max_schema_bytes} bytes a schema; {limits.json_depth} levels of JSON;
{limits.max_n} answers; {limits.deadline:g} seconds. {limits.parallel} answers are made at once, {limits.queue} requests
may wait.
"""


def _components(model: str, keyed: bool) -> Json:
    _, schemas = msgspec.json.schema_components(TYPES, ref_template=SCHEMAS)
    components: Json = {
        "schemas": cast("Json", _as_markdown(_completed(schemas, model))),
        "responses": error_responses(),
    }
    if keyed:
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return components


def _completed(schemas: Json, model: str) -> Json:
    """What the types do not say: the model's name, the form's file, that items without a type are messages, and that
    nothing is stored.
    """
    for name in ("ChatRequest", "ResponsesRequest"):
        schemas[name]["properties"]["model"] = {"type": "string", "enum": [model]}
    optional = {"anyOf": [{"type": "string", "enum": [model]}, {"type": "null"}], "default": None}
    schemas["TokenizeRequest"]["properties"]["model"] = optional
    file = {"type": "string", "format": "binary", "description": "The image's file: PNG, JPEG, WebP or BMP."}
    form = schemas["FormFields"]
    schemas["FormFields"] = {**form, "properties": {"image": file, **form["properties"]}, "required": ["image"]}
    schemas["MessageItem"]["required"].remove("type")
    for choice in schemas["ResponsesRequest"]["properties"]["input"]["anyOf"]:
        if choice["type"] == "array":  # a discriminator would have to be there
            del choice["items"]["discriminator"]
    schemas["ChatRequest"]["properties"]["store"] = {"enum": [False, None], "default": None}
    return schemas


def _as_markdown(value: object) -> object:
    """The docstrings' double backticks as Markdown knows them."""
    if isinstance(value, Mapping):
        return {key: _as_markdown(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_as_markdown(member) for member in value]
    return value.replace("``", "`") if isinstance(value, str) else value
