"""The paths of the OpenAPI document: what each endpoint takes, and every status that it can answer with.

Plain values that refer to the schemas by name. Knows the endpoints; does not make the schemas.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from vlrun.server.api.openapi_examples import Examples, chat_examples, responses_examples, tokenize_examples
from vlrun.server.api.responses_stream import Event

Json: TypeAlias = dict[str, Any]

SCHEMAS = "#/components/schemas/{name}"

EVERYWHERE = (400, 403, 408, 414, 431, 500, 503)
"""Whatever is asked: a malformed request, a foreign Host or Origin, a head that is slow or too large, a service that
fails or stops.
"""
POSTED = (413, 415, 429, 504)
"""Of those that take a body and have the model work."""
WORDS = {
    400: "What was asked for is not possible; `param` names the field",
    401: "No valid API key",
    403: "A foreign Host or Origin",
    404: "No such model, or no such path",
    408: "The request came too slowly",
    413: "The body is too large",
    414: "The path is too long",
    415: "A content type that is not read; of forms also an image's format",
    429: "The queue is full: try again later",
    431: "The headers are too large",
    500: "The service failed on this request",
    503: "The service is stopping, or has no connection to spare",
    504: "The request took longer than its deadline",
}
ANSWERED = "The answer"


def paths(model: str, keyed: bool) -> Json:
    """All paths. ``keyed``: API keys are needed, but for ``/health/live``."""
    common = (*EVERYWHERE, 401) if keyed else EVERYWHERE
    return {
        "/v1/chat/completions": {"post": _chat(model, common)},
        "/v1/responses": {"post": _responses(model, common)},
        "/v1/tokenize": {"post": _tokenize(model, common)},
        "/v1/models": {"get": _got("listModels", "The names of the model", "models", _json("Models"), common)},
        "/v1/models/{model}": {"get": _model(model, common)},
        "/api/v1/chat": {"post": _form("formChat", "Ask about an image", "FormChatAnswer", common)},
        "/api/v1/analyze": {"post": _form("formAnalyze", "Have an image described", "FormAnalyzeAnswer", common)},
        "/health/live": {"get": _alive(keyed)},
        "/health/ready": {"get": _ready(common)},
        "/metrics": {"get": _got("metrics", "Figures for Prometheus", "service", _text("text/plain"), common)},
    }


def error_responses() -> Json:
    """The errors as components, by status."""
    return {f"Error{status}": _error(status, words) for status, words in WORDS.items()}


def _error(status: int, words: str) -> Json:
    headers: Json = {
        "x-should-retry": {
            "description": "Whether trying again can help.",
            "schema": {"type": "string", "enum": ["true", "false"]},
        }
    }
    if status in (429, 503, 504):
        again = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        headers["Retry-After"] = {**again, "required": True} if status == 429 else again
    return {"description": words, "headers": headers, "content": _json("ErrorBody")}


def _errors(statuses: tuple[int, ...]) -> Json:
    return {str(status): {"$ref": f"#/components/responses/Error{status}"} for status in sorted(statuses)}


def _json(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": SCHEMAS.format(name=schema)}}}


def _events(data: Json, *others: Json) -> Json:
    """A stream of events: each has JSON as its data, or is one of ``others``."""
    told = {"contentMediaType": "application/json", "contentSchema": data}
    properties = {"event": {"type": "string"}, "data": {"type": "string", "anyOf": [told, *others]}}
    return {"text/event-stream": {"schema": {"type": "object", "properties": properties, "required": ["data"]}}}


def _text(media_type: str) -> Json:
    return {media_type: {"schema": {"type": "string"}}}


def _got(name: str, summary: str, tag: str, content: Json, errors: tuple[int, ...]) -> Json:
    """An operation that takes no body."""
    return {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "responses": {"200": {"description": ANSWERED, "content": content}, **_errors(errors)},
    }


def _posted(name: str, summary: str, tag: str, request: Json, content: Json, errors: tuple[int, ...]) -> Json:
    """An operation that takes a body."""
    operation = _got(name, summary, tag, content, (*errors, *POSTED))
    return {**operation, "requestBody": {"required": True, "content": request}}


def _request(schema: str, examples: Examples) -> Json:
    return {"application/json": {"schema": {"$ref": SCHEMAS.format(name=schema)}, "examples": examples}}


def _chat(model: str, common: tuple[int, ...]) -> Json:
    chunk = {"anyOf": [{"$ref": SCHEMAS.format(name=name)} for name in ("ChatCompletionChunk", "ErrorBody")]}
    content = {**_json("ChatCompletion"), **_events(chunk, {"const": "[DONE]"})}
    request = _request("ChatRequest", chat_examples(model))
    operation = _posted("createChatCompletion", "Answer a chat", "chat", request, content, (*common, 404))
    told = (
        "With `stream`, server-sent events: each `data` is a chunk, the last one is `[DONE]`. Lines that begin with a "
        'colon only keep the connection alive. An error in the middle is `data: {"error": ...}`.'
    )
    return {**operation, "description": told}


def _responses(model: str, common: tuple[int, ...]) -> Json:
    (events,), _ = msgspec.json.schema_components([Event], ref_template=SCHEMAS)
    content = {**_json("Response"), **_events(events)}
    request = _request("ResponsesRequest", responses_examples(model))
    operation = _posted("createResponse", "Answer, in the words of responses", "chat", request, content, (*common, 404))
    told = "With `stream`, server-sent events: each `data` is an event, and `event` its type. Nothing is kept."
    return {**operation, "description": told}


def _tokenize(model: str, common: tuple[int, ...]) -> Json:
    request, content = _request("TokenizeRequest", tokenize_examples(model)), _json("TokenCount")
    return _posted("tokenize", "Count the tokens of a prompt, images too", "models", request, content, (*common, 404))


def _model(model: str, common: tuple[int, ...]) -> Json:
    named = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}, "example": model}
    operation = _got("getModel", "One of the model's names", "models", _json("Model"), (*common, 404))
    return {**operation, "parameters": [named]}


def _form(name: str, summary: str, answer: str, common: tuple[int, ...]) -> Json:
    request = {"multipart/form-data": {"schema": {"$ref": SCHEMAS.format(name="FormFields")}}}
    return _posted(name, summary, "forms", request, _json(answer), common)


def _alive(keyed: bool) -> Json:
    """The one that needs no key."""
    operation = _got("live", "Whether the process answers", "service", _json("Alive"), EVERYWHERE)
    return {**operation, "security": []} if keyed else operation


def _ready(common: tuple[int, ...]) -> Json:
    operation = _got("ready", "Whether the model answers", "service", _json("Readiness"), common)
    either = {"schema": {"anyOf": [{"$ref": SCHEMAS.format(name=name)} for name in ("Readiness", "ErrorBody")]}}
    not_ready = {"description": "It does not, or not yet", "content": {"application/json": either}}
    return {**operation, "responses": {**operation["responses"], "503": not_ready}}
