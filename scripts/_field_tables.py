"""The tables of docs/fields.md: which fields of requests are used, ignored and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from vlrun.server.api.chat_schemas import ChatRequest
from vlrun.server.api.responses_schemas import ResponsesRequest
from vlrun.server.api.schemas import RequestStruct
from vlrun.server.api.tokenize import TokenizeRequest
from vlrun.server.api.validation import places_of_structs

REQUESTS = {"chat completions": ChatRequest, "responses": ResponsesRequest, "tokenize": TokenizeRequest}
SHOWN = re.compile(r"<!-- fields of: (?P<name>.+?) -->\n.*?<!-- end of fields -->", re.DOTALL)


def with_tables(page: str) -> str:
    """Return a page with its tables up to date."""
    return SHOWN.sub(_show, page)


def _show(match: re.Match[str]) -> str:
    rows = ["| object | fields | what happens |", "| --- | --- | --- |", *_rows(REQUESTS[match["name"]])]
    return "\n".join([f"<!-- fields of: {match['name']} -->\n", *rows, "\n<!-- end of fields -->"])


def _rows(request: type[RequestStruct]) -> Iterator[str]:
    """The rows of a table. Objects that may be in the same places and have the same unused fields share rows."""
    groups: dict[tuple[object, ...], list[type[RequestStruct]]] = {}
    for struct, places in places_of_structs(request).items():
        if request is not TokenizeRequest or struct is request:  # the others are those of chat completions
            groups.setdefault((*places, id(struct.unused)), []).append(struct)
    for (*where, _), structs in groups.items():
        tags = [f"`{struct.__struct_config__.tag}`" for struct in structs if struct.__struct_config__.tag]
        kinds = f" of type {', '.join(tags)}" if tags else ""
        name = (", ".join(f"`{place}`" for place in where) if where[0] else "the request") + kinds
        for fields, treatment in _fields(structs):
            yield f"| {name} | {', '.join(fields)} | {treatment} |"
            name = ""


def _fields(structs: Sequence[type[RequestStruct]]) -> Iterator[tuple[list[str], str]]:
    unused = structs[0].unused
    only = [f"`{field}: {json.dumps(value)}`" for field, values in sorted(unused.only.items()) for value in values]
    for fields, treatment in (
        (list(dict.fromkeys(f"`{field}`" for struct in structs for field in struct.__struct_fields__)), "used"),
        ([f"`{field}`" for field in sorted(unused.ignored)], "ignored"),
        (only, "ignored with this value, refused with others"),
        ([f"`{field}`" for field in sorted(unused.refused - {*unused.only})], "refused"),
    ):
        if fields:
            yield fields, treatment
