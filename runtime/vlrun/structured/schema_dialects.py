"""Rewrites keywords of older drafts and OpenAPI to JSON Schema 2020-12, and removes keywords that assert nothing."""

from __future__ import annotations

from typing import cast

from vlrun.errors import OptionError
from vlrun.structured.schema_refs import Schema, types_of

DRAFT_04 = frozenset(f"http{s}://json-schema.org/draft-04/schema{end}" for s in ("", "s") for end in ("", "#"))

ASSERTED_FORMATS = frozenset(
    "date-time time date duration email hostname ipv4 ipv6 uuid uri regex".split()
    + "idn-email idn-hostname iri iri-reference json-pointer relative-json-pointer uri-reference uri-template".split()
)
"""Formats of JSON Schema's format-assertion vocabulary. All others, such as int32, are annotations."""

_ANNOTATIONS = frozenset(
    "title description default examples deprecated readOnly writeOnly $comment $vocabulary discriminator".split()
    + "example externalDocs propertyOrdering xml strict".split()
    + "contentEncoding contentMediaType contentSchema".split()
)
_EXTENSION = "x-"
"""Begins the names of keywords that OpenAPI leaves to its users."""
_LLGUIDANCE = "x-guidance"
"""llguidance's options, which a schema may not set."""
_MAY_BE_NULL = frozenset({"const", "enum"})


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
    rest = kept.pop("additionalItems", None)
    if isinstance(kept.get("items"), list):
        if "prefixItems" in kept:
            raise OptionError(f"the schema has prefixItems beside a list of items at {where}")
        kept["prefixItems"] = kept.pop("items")
        if rest is not None:
            kept["items"] = rest
    if kept.get("prefixItems") == []:
        del kept["prefixItems"]
    if "format" in kept and "string" not in types_of(kept, "string"):
        del kept["format"]
    if isinstance(kept.get("dependencies"), dict):
        _split_dependencies(kept)
    return _with_null(kept, where) if kept.pop("nullable", False) is not False else kept


def _asserts_nothing(key: str, value: object) -> bool:
    if value is None:  # clients write absent fields so
        return key not in _MAY_BE_NULL
    if key == "format":
        return isinstance(value, str) and value not in ASSERTED_FORMATS
    if key == "propertyNames":  # every name is a string
        names = modernize(value, "") if isinstance(value, dict) else value
        return names is True or names in ({}, {"type": "string"})
    is_extension = key.startswith(_EXTENSION) and key != _LLGUIDANCE
    return key in _ANNOTATIONS or is_extension or (key == "uniqueItems" and value is False)


def _split_dependencies(schema: Schema) -> None:
    """Replace ``dependencies``, which draft 2019-09 split, in place."""
    for name, value in cast("Schema", schema.pop("dependencies")).items():
        keyword = "dependentRequired" if isinstance(value, list) else "dependentSchemas"
        given = schema.get(keyword, {})
        if isinstance(given, dict):  # anything else is refused later
            schema[keyword] = {**given, name: value}


def _with_null(schema: Schema, where: str) -> Schema:
    """Add null to the types of an OpenAPI schema with ``nullable``."""
    types = schema.get("type")
    listed = types if isinstance(types, list) else [types]
    constants = schema.get("enum", [schema["const"]] if "const" in schema else [None])
    if types is None or not isinstance(constants, list) or None not in constants:
        raise OptionError(f"the schema needs a type, and null among its constants, beside {where}/nullable")
    return {**schema, "type": listed if "null" in listed else [*listed, "null"]}
