"""The OpenAPI 3.1 document: paths, answers and examples from assets/openapi.json, requests from the types that parse
them, limits and the model's name from the running service.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

import msgspec

import vlrun
from vlrun.server.api.anthropic.schemas import CountTokensRequest, MessagesRequest
from vlrun.server.api.chat_schemas import ChatRequest
from vlrun.server.api.completions import CompletionRequest
from vlrun.server.api.fields import UnusedFields
from vlrun.server.api.forms import FormFields
from vlrun.server.api.image_uploads import ImageUpload
from vlrun.server.api.ollama.schemas import NamedModel, OllamaChatRequest, OllamaGenerateRequest
from vlrun.server.api.responses_schemas import ResponsesRequest
from vlrun.server.api.schemas import RequestStruct
from vlrun.server.api.tokenize import TokenizeRequest
from vlrun.server.api.validation import places_of_structs
from vlrun.server.api_errors import protocol_of
from vlrun.server.limits import ServerLimits

Json: TypeAlias = dict[str, Any]
Structs: TypeAlias = tuple[type[RequestStruct], ...]

ASSETS = Path(__file__).parent / "assets"
PUBLIC = frozenset({"health", "live"})
"""Operations that need no key."""
FILE = "The file: PNG, JPEG, WebP, BMP, GIF, AVIF; HEIC, PDF and videos with the extras."
OPENAI: Structs = (ChatRequest, CompletionRequest, ResponsesRequest, TokenizeRequest)
ANTHROPIC: Structs = (MessagesRequest, CountTokensRequest)
OLLAMA: Structs = (OllamaChatRequest, OllamaGenerateRequest, NamedModel)
REQUESTS: Structs = (*OPENAI, *ANTHROPIC, *OLLAMA, FormFields, ImageUpload)


def document(limits: ServerLimits, model: str, keyed: bool, base: str = "http://127.0.0.1:8321") -> Json:
    """The document. ``model``: the model's first name; ``keyed``: API keys are needed; ``base``: the service's URL."""
    image, pdf = (base64.b64encode((ASSETS / f"example.{kind}").read_bytes()).decode() for kind in ("png", "pdf"))
    text = (ASSETS / "openapi.json").read_text(encoding="utf-8")
    text = text.replace("@document", f"data:application/pdf;base64,{pdf}")
    text = text.replace("@image", "data:image/png;base64,@base64").replace("@base64", image).replace("@base", base)
    document: Json = json.loads(text.replace('"@model"', json.dumps(model)))
    document["info"] |= {"version": vlrun.__version__, "description": _description(limits)}
    _, requests = msgspec.json.schema_components(REQUESTS, ref_template="#/components/schemas/{name}")
    document["components"]["schemas"] |= cast("Json", _as_markdown(_completed(requests, model)))
    if keyed:
        document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"bearer": []}]
        operations = [(path, each) for path, methods in document["paths"].items() for each in methods.values()]
        for path, operation in operations:
            if operation["operationId"] in PUBLIC:
                operation["security"] = []
            else:
                errors = {"ollama": "OllamaError", "anthropic": "AnthropicError"}.get(protocol_of(path), "Error401")
                operation["responses"]["401"] = {"$ref": f"#/components/responses/{errors}"}
    return document


def _description(limits: ServerLimits) -> str:
    return f"""One vision-language model behind the APIs of OpenAI, Ollama and Anthropic. Unknown fields are refused by
name, unless they are null; images and PDF files come as data URLs or files, or are sent before to
/v1/images; no URL is ever fetched.

Limits: {limits.max_body_mib} MiB a request; {limits.max_images} images, each of at most {limits.max_megapixels}
megapixels, together of {limits.request_megapixels}, where each page of a PDF file counts as an image;
{limits.max_messages} messages; {limits.max_text} characters of text; {limits.max_schema_bytes} bytes a schema;
{limits.json_depth} levels of JSON; {limits.max_n} answers; {limits.deadline:g} seconds. {limits.parallel} answers are
generated at once, {limits.queue} requests may wait.
"""


def _completed(requests: Json, model: str) -> Json:
    """Add what the types do not say: the model's name, the form's file, ignored fields, and that items without a type
    are messages.
    """
    named = {"type": "string", "enum": [model]}
    tagged = {"type": "string", "enum": [model, f"{model}:latest"]}
    optional = {"anyOf": [named, {"type": "null"}], "default": None}
    for kinds, schema in ((ANTHROPIC, named), (OLLAMA, tagged), (OPENAI, optional)):
        for kind in kinds:
            requests[kind.__name__]["properties"]["model"] = schema
    for struct in {struct for kind in REQUESTS for struct in places_of_structs(kind)}:
        if struct is not FormFields:
            _add_unused(requests[struct.__name__], struct.unused)
    file = {"type": "string", "format": "binary", "description": FILE}
    form = requests["FormFields"]
    requests["FormFields"] = {**form, "properties": {"image": file, **form["properties"]}, "required": ["image"]}
    requests["TokenizeRequest"]["anyOf"] = [
        _only("prompt", "string", "messages", "tools"),
        _only("messages", "array", "prompt"),
    ]
    requests["MessageItem"]["required"].remove("type")
    for choice in requests["ResponsesRequest"]["properties"]["input"]["anyOf"]:
        if choice["type"] == "array":  # a discriminator would have to be present
            del choice["items"]["discriminator"]
    either = [{"properties": {name: tagged}, "required": [name]} for name in ("model", "name")]
    nullable = {"anyOf": [tagged, {"type": "null"}]}
    requests["NamedModel"] |= {"properties": {"model": nullable, "name": nullable}, "anyOf": either}
    return requests


def _only(name: str, kind: str, *others: str) -> Json:
    """The schema of an object that has one field and not the others."""
    return {"required": [name], "properties": {name: {"type": kind}, **{other: {"type": "null"} for other in others}}}


def _add_unused(schema: Json, unused: UnusedFields) -> None:
    """Add the ignored fields to the schema of an object, as patterns: /docs would list a hundred properties."""
    by_values: dict[str, Json] = {}
    names: dict[str, list[str]] = {}
    for name in sorted({*unused.ignored, *unused.only}):
        values = None if name in unused.ignored else [*unused.only[name], None]
        rule: Json = {"description": "Ignored."} | ({"enum": values} if values else {})
        by_values[key := json.dumps(rule)] = rule
        names.setdefault(key, []).append(name)
    if names:
        schema["patternProperties"] = {f"^({'|'.join(names[key])})$": rule for key, rule in by_values.items()}
    schema["additionalProperties"] = {"type": "null"}


def _as_markdown(value: object) -> object:
    """Turn the docstrings' double backticks into Markdown's single ones."""
    if isinstance(value, Mapping):
        return {key: _as_markdown(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_as_markdown(member) for member in value]
    return value.replace("``", "`") if isinstance(value, str) else value
