"""The OpenAPI 3.1 document: schemas from the types that parse requests and word answers, and a table of the paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

import vlrun
from vlrun.server.api import forms, schemas, status, tokenize
from vlrun.server.api.chat_schemas import ChatCompletion, ChatCompletionChunk, ChatRequest
from vlrun.server.api.openapi_examples import chat_examples, responses_examples, tokenize_examples
from vlrun.server.api.responses_schemas import Response, ResponseEvent, ResponsesRequest
from vlrun.server.limits import ServerLimits

Json: TypeAlias = dict[str, Any]

TYPES = (
    *(ChatRequest, ChatCompletion, ChatCompletionChunk, ResponsesRequest, Response, ResponseEvent),
    *(tokenize.TokenizeRequest, tokenize.TokenCount, status.Models, status.Alive, status.Readiness),
    *(forms.FormFields, forms.FormAnswer, schemas.ErrorBody),
)
TAGS = {
    "chat": "Answers to conversations with images, for OpenAI's clients",
    "models": "The model, and how it counts tokens",
    "forms": "An image and a question as a form",
    "service": "The state of the service",
}
ERRORS = {
    400: "The request is not valid; `param` names the field",
    401: "No valid API key",
    403: "A foreign Host or Origin",
    404: "No such model, or no such path",
    408: "The request came too slowly",
    413: "The body is too large",
    414: "The path is too long",
    415: "The content type is not supported; of forms also the image's format",
    429: "The queue is full: try again later",
    431: "The headers are too large",
    500: "The service failed on this request",
    503: "The service is stopping, or has too many connections",
    504: "The request took longer than its deadline",
}
GENERAL_ERRORS = (400, 403, 408, 414, 431, 500, 503)
POST_ERRORS = (413, 415, 429, 504)


@dataclass(frozen=True)
class _Operation:
    """An operation of the document. ``answer``: the name of its schema, or a media type."""

    method: str
    path: str
    id: str
    tag: str
    summary: str
    answer: str
    request: str = ""
    errors: tuple[int, ...] = ()
    stream: Json = field(default_factory=dict)
    description: str = ""


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


OPERATIONS = (
    _Operation(
        *("post", "/v1/chat/completions", "createChatCompletion", "chat", "Answer a chat", "ChatCompletion"),
        request="ChatRequest",
        errors=(404,),
        stream={"anyOf": [_ref("ChatCompletionChunk"), _ref("ErrorBody")]},
        description="With `stream`, server-sent events: each `data` is a chunk, the last one is `[DONE]`. Lines that "
        'begin with a colon are comments. An error in a stream is `data: {"error": ...}`.',
    ),
    _Operation(
        *("post", "/v1/responses", "createResponse", "chat", "Create a response", "Response"),
        request="ResponsesRequest",
        errors=(404,),
        stream=_ref("ResponseEvent"),
        description="With `stream`, server-sent events: each `data` is an event, and `event` its type.",
    ),
    _Operation(
        *("post", "/v1/tokenize", "tokenize", "models", "Count the tokens of a prompt with its images", "TokenCount"),
        request="TokenizeRequest",
        errors=(404,),
    ),
    _Operation("get", "/v1/models", "listModels", "models", "The names of the model", "Models"),
    _Operation("get", "/v1/models/{model}", "getModel", "models", "One of its names", "Model", errors=(404,)),
    _Operation("post", "/api/v1/chat", "formChat", "forms", "Ask about an image", "FormAnswer", "FormFields"),
    _Operation("post", "/api/v1/analyze", "formAnalyze", "forms", "Describe an image", "FormAnswer", "FormFields"),
    _Operation("get", "/health/live", "live", "service", "Whether the process answers", "Alive"),
    _Operation("get", "/health/ready", "ready", "service", "Whether the model answers", "Readiness"),
    _Operation("get", "/metrics", "metrics", "service", "Metrics for Prometheus", "text/plain"),
)


def document(limits: ServerLimits, model: str, keyed: bool) -> Json:
    """The document. ``model``: the first name of the model; ``keyed``: API keys are needed."""
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, model, keyed)
    _, components = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    errors = {f"Error{code}": _error(code, description) for code, description in ERRORS.items()}
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "vlrun",
            "version": vlrun.__version__,
            "summary": "Questions about images",
            "description": _description(limits),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": paths,
        "components": {"schemas": _as_markdown(_completed(components, model)), "responses": errors},
    }
    if keyed:
        document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"bearer": []}]
    return document


def _description(limits: ServerLimits) -> str:
    return f"""One vision-language model behind OpenAI's API. Unknown fields are refused by name; images come as data
URLs or files, and no URL is ever fetched.

Limits: {limits.max_body_mib} MiB a request; {limits.max_images} images, each of at most {limits.max_megapixels}
megapixels, together of {limits.request_megapixels}; {limits.max_messages} messages; {limits.max_text} characters of
text; {limits.max_schema_bytes} bytes a schema; {limits.json_depth} levels of JSON; {limits.max_n} answers;
{limits.deadline:g} seconds. {limits.parallel} answers are generated at once, {limits.queue} requests may wait.
"""


def _operation(operation: _Operation, model: str, keyed: bool) -> Json:
    public = operation.id == "live"
    codes = {*GENERAL_ERRORS, *operation.errors, *([401] if keyed and not public else [])}
    if operation.method == "post":
        codes |= {*POST_ERRORS}
    is_text = "/" in operation.answer
    content: Json = (
        {operation.answer: {"schema": {"type": "string"}}}
        if is_text
        else {"application/json": {"schema": _ref(operation.answer)}}
    )
    if operation.stream:
        content["text/event-stream"] = {"schema": _event_schema(operation)}
    made: Json = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {
            "200": {"description": "The answer", "content": content},
            **{str(code): {"$ref": f"#/components/responses/Error{code}"} for code in sorted(codes)},
        },
    }
    if operation.description:
        made["description"] = operation.description
    if operation.request:
        made["requestBody"] = {"required": True, "content": _request_content(operation, model)}
    if public and keyed:
        made["security"] = []
    if operation.id == "getModel":
        made["parameters"] = [
            {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}, "example": model}
        ]
    if operation.id == "ready":
        either = {"schema": {"anyOf": [_ref("Readiness"), _ref("ErrorBody")]}}
        made["responses"]["503"] = {"description": "Not ready", "content": {"application/json": either}}
    return made


def _event_schema(operation: _Operation) -> Json:
    data: list[Json] = [{"contentMediaType": "application/json", "contentSchema": operation.stream}]
    if operation.id == "createChatCompletion":
        data.append({"const": "[DONE]"})
    properties = {"event": {"type": "string"}, "data": {"type": "string", "anyOf": data}}
    return {"type": "object", "properties": properties, "required": ["data"]}


def _request_content(operation: _Operation, model: str) -> Json:
    schema = _ref(operation.request)
    if operation.request == "FormFields":
        return {"multipart/form-data": {"schema": schema}}
    examples = {"createResponse": responses_examples, "tokenize": tokenize_examples}
    made = examples.get(operation.id, chat_examples)(model)
    return {"application/json": {"schema": schema, "examples": made}}


def _error(code: int, description: str) -> Json:
    headers: Json = {"x-should-retry": {"schema": {"type": "string", "enum": ["true", "false"]}}}
    if code in (429, 503, 504):
        retry_after = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        headers["Retry-After"] = {**retry_after, "required": True} if code == 429 else retry_after
    content = {"application/json": {"schema": _ref("ErrorBody")}}
    return {"description": description, "headers": headers, "content": content}


def _completed(components: Json, model: str) -> Json:
    """Add what the types do not say: the model's name, the form's file, that items without a type are messages, and
    that nothing is stored.
    """
    for name in ("ChatRequest", "ResponsesRequest"):
        components[name]["properties"]["model"] = {"type": "string", "enum": [model]}
    optional = {"anyOf": [{"type": "string", "enum": [model]}, {"type": "null"}], "default": None}
    components["TokenizeRequest"]["properties"]["model"] = optional
    file = {"type": "string", "format": "binary", "description": "The image's file: PNG, JPEG, WebP or BMP."}
    form = components["FormFields"]
    components["FormFields"] = {**form, "properties": {"image": file, **form["properties"]}, "required": ["image"]}
    components["MessageItem"]["required"].remove("type")
    for choice in components["ResponsesRequest"]["properties"]["input"]["anyOf"]:
        if choice["type"] == "array":  # a discriminator would have to be present
            del choice["items"]["discriminator"]
    components["ChatRequest"]["properties"]["store"] = {"enum": [False, None], "default": None}
    return components


def _as_markdown(value: object) -> object:
    """Turn the docstrings' double backticks into Markdown's single ones."""
    if isinstance(value, Mapping):
        return {key: _as_markdown(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_as_markdown(member) for member in value]
    return value.replace("``", "`") if isinstance(value, str) else value
