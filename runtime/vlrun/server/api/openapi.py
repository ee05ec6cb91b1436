"""The OpenAPI 3.1 document: paths, answers and examples from assets/openapi.json, requests from the types that parse
them, limits and the model's name from the running service.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

import msgspec

import vlrun
from vlrun.server.api.chat_schemas import ChatRequest
from vlrun.server.api.forms import FormFields
from vlrun.server.api.responses_schemas import ResponsesRequest
from vlrun.server.api.tokenize import TokenizeRequest
from vlrun.server.limits import ServerLimits

Json: TypeAlias = dict[str, Any]

TEMPLATE = Path(__file__).parent / "assets" / "openapi.json"
REQUESTS = (ChatRequest, ResponsesRequest, TokenizeRequest, FormFields)


def document(limits: ServerLimits, model: str, keyed: bool) -> Json:
    """The document. ``model``: the first name of the model; ``keyed``: API keys are needed."""
    text = TEMPLATE.read_text(encoding="utf-8").replace('"@model"', json.dumps(model))
    document: Json = json.loads(text)
    document["info"] |= {"version": vlrun.__version__, "description": _description(limits)}
    _, requests = msgspec.json.schema_components(REQUESTS, ref_template="#/components/schemas/{name}")
    document["components"]["schemas"] |= cast("Json", _as_markdown(_completed(requests, model)))
    if keyed:
        document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"bearer": []}]
        for operation in (operation for path in document["paths"].values() for operation in path.values()):
            if operation["operationId"] == "live":
                operation["security"] = []
            else:
                operation["responses"]["401"] = {"$ref": "#/components/responses/Error401"}
    return document


def _description(limits: ServerLimits) -> str:
    return f"""One vision-language model behind OpenAI's API. Unknown fields are refused by name; images come as data
URLs or files, and no URL is ever fetched.

Limits: {limits.max_body_mib} MiB a request; {limits.max_images} images, each of at most {limits.max_megapixels}
megapixels, together of {limits.request_megapixels}; {limits.max_messages} messages; {limits.max_text} characters of
text; {limits.max_schema_bytes} bytes a schema; {limits.json_depth} levels of JSON; {limits.max_n} answers;
{limits.deadline:g} seconds. {limits.parallel} answers are generated at once, {limits.queue} requests may wait.
"""


def _completed(requests: Json, model: str) -> Json:
    """Add what the types do not say: the model's name, the form's file, and that items without a type are messages."""
    named = {"type": "string", "enum": [model]}
    for name in ("ChatRequest", "ResponsesRequest"):
        requests[name]["properties"]["model"] = named
    requests["TokenizeRequest"]["properties"]["model"] = {"anyOf": [named, {"type": "null"}], "default": None}
    file = {"type": "string", "format": "binary", "description": "The image's file: PNG, JPEG, WebP, BMP or GIF."}
    form = requests["FormFields"]
    requests["FormFields"] = {**form, "properties": {"image": file, **form["properties"]}, "required": ["image"]}
    requests["MessageItem"]["required"].remove("type")
    for choice in requests["ResponsesRequest"]["properties"]["input"]["anyOf"]:
        if choice["type"] == "array":  # a discriminator would have to be present
            del choice["items"]["discriminator"]
    return requests


def _as_markdown(value: object) -> object:
    """Turn the docstrings' double backticks into Markdown's single ones."""
    if isinstance(value, Mapping):
        return {key: _as_markdown(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_as_markdown(member) for member in value]
    return value.replace("``", "`") if isinstance(value, str) else value
