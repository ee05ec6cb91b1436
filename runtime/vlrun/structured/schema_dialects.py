"""Rewrites keywords of draft-04 and OpenAPI to JSON Schema 2020-12, and removes keywords that assert nothing."""

from __future__ import annotations

from vlrun.errors import OptionError
from vlrun.structured.schema_refs import Schema

DRAFT_04 = frozenset(f"http{s}://json-schema.org/draft-04/schema{end}" for s in ("", "s") for end in ("", "#"))

SUPPORTED_FORMATS = frozenset("date-time time date duration email hostname ipv4 ipv6 uuid uri".split())
ASSERTED_FORMATS = SUPPORTED_FORMATS.union(
    "idn-email idn-hostname iri iri-reference json-pointer regex".split(),
    "relative-json-pointer uri-reference uri-template".split(),
)
"""Formats of JSON Schema's format-assertion vocabulary. All others, such as int32, are annotations."""

_ANNOTATIONS = frozenset(
    "title description default examples deprecated readOnly writeOnly $comment discriminator".split()
    + "example externalDocs propertyOrdering xml".split()
)
_EXTENSION = "x-"
"""Begins the names of keywords that OpenAPI leaves to its users."""
_LLGUIDANCE = "x-guidance"
"""llguidance's options, which a schema may not set."""


def modernize(schema: Schema, where: str) -> Schema:
    """Return a schema in terms of draft 2020-12, without what asserts nothing. Its members stay as they are.

    Raises:
        OptionError: ``nullable`` contradicts the rest of the schema.
    """
    kept = {key: value for key, value in schema.items() if not _asserts_nothing(key, value)}
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if kept.get(exclusive) is False:
            del kept[exclusive]
        elif kept.get(exclusive) is True and bound in kept:
            kept[exclusive] = kept.pop(bound)
    return _with_null(kept, where) if kept.pop("nullable", False) is not False else kept


def _asserts_nothing(key: str, value: object) -> bool:
    if key == "format":
        return isinstance(value, str) and value not in ASSERTED_FORMATS
    if key == "propertyNames":  # every name is a string
        names = modernize(value, "") if isinstance(value, dict) else value
        return names is True or names in ({}, {"type": "string"})
    is_extension = key.startswith(_EXTENSION) and key != _LLGUIDANCE
    return key in _ANNOTATIONS or is_extension or (key == "uniqueItems" and value is False)


def _with_null(schema: Schema, where: str) -> Schema:
    """Add null to the types of an OpenAPI schema with ``nullable``."""
    types = schema.get("type")
    listed = types if isinstance(types, list) else [types]
    constants = schema.get("enum", [schema["const"]] if "const" in schema else [None])
    if types is None or not isinstance(constants, list) or None not in constants:
        raise OptionError(f"the schema needs a type, and null among its constants, beside {where}/nullable")
    return {**schema, "type": listed if "null" in listed else [*listed, "null"]}
