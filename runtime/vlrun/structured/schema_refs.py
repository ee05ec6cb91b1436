"""Checks across a schema: references, whether an answer can end, and the cost of compiling it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias, cast
from urllib.parse import unquote

from vlrun.errors import OptionError

Schema: TypeAlias = dict[str, object]

MAX_REFS = 200
"""Distinct references in one schema."""

ONE_SCHEMA = frozenset(
    "items additionalProperties not if then else contains propertyNames unevaluatedItems unevaluatedProperties".split()
)
SCHEMA_LISTS = frozenset("anyOf oneOf allOf prefixItems".split())
NAMED_SCHEMAS = frozenset("properties patternProperties $defs definitions dependentSchemas".split())
"""Keywords whose values are a schema, a list of schemas, and schemas by name."""

_REGULAR = frozenset({"pattern", "patternProperties", "multipleOf", "format", "allOf"})
_INTERSECTED = frozenset({"$ref", "anyOf", "oneOf", "enum", "const"})
_NEUTRAL = frozenset({"$defs", "definitions", "type"})


def escape_pointer(name: str) -> str:
    """Escape a name for a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def types_of(schema: Schema, default: str) -> list[object]:
    """Return the types of a schema, or the default."""
    types = schema.get("type", default)
    return types if isinstance(types, list) else [types]


def check_refs(schema: Schema | bool) -> None:
    """Raise OptionError for an external or broken reference, and for a schema whose answers never end."""
    schemas = dict(subschemas(schema, "#"))
    targets = {str(member["$ref"]) for member in schemas.values() if isinstance(member, dict) and "$ref" in member}
    if len(targets) > MAX_REFS:
        raise OptionError(f"the schema has more than {MAX_REFS} references")
    for at, member in schemas.items():
        target = str(member.get("$ref", "#")) if isinstance(member, dict) else "#"
        if unquote(target) not in schemas:
            raise OptionError(f"the schema's reference '{target[:80]}' at {at}/$ref leads to no schema in it")
    finite: set[str] = set()  # pointers of schemas with an answer that ends
    while more := {at for at, member in schemas.items() if at not in finite and _is_finite(member, at, finite)}:
        finite |= more
    if "#" not in finite:
        raise OptionError("the schema allows no answer that ends at #")


def is_risky(schema: Schema | bool) -> bool:
    """Return whether compiling may be slow: regular expressions and intersections multiply the cost.

    Otherwise the cost grows with the size of the schema.
    """
    keywords = [set(member) - _NEUTRAL for _, member in subschemas(schema, "#") if isinstance(member, dict)]
    return any(keys & _REGULAR or (keys & _INTERSECTED and len(keys) > 1) for keys in keywords)


def subschemas(schema: object, at: str) -> Iterator[tuple[str, object]]:
    """Yield every schema in the document with its pointer."""
    yield at, schema
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if value is None:  # as if it were absent, see `modernize`
            continue
        if key in ONE_SCHEMA and not isinstance(value, list):
            yield from subschemas(value, f"{at}/{key}")
        elif key in SCHEMA_LISTS | {"items"}:
            for index, member in enumerate(cast("list[object]", value)):
                yield from subschemas(member, f"{at}/{key}/{index}")
        elif key in NAMED_SCHEMAS:
            for name, member in cast("Schema", value).items():
                yield from subschemas(member, f"{at}/{key}/{escape_pointer(name)}")


def resolve(schema: object, schemas: Mapping[str, object]) -> object:
    """Return what a schema refers to. ``schemas``: all schemas of the document by their pointers."""
    return schemas.get(unquote(str(cast("Schema", schema).get("$ref"))))


def _is_finite(schema: object, at: str, finite: set[str]) -> bool:
    """Return whether an answer can end, given the pointers of schemas with an answer that ends."""
    if not isinstance(schema, dict):
        return bool(schema)
    if "$ref" in schema and unquote(str(schema["$ref"])) not in finite:
        return False
    for key, combine in (("allOf", all), ("anyOf", any), ("oneOf", any)):
        if key in schema:
            members = range(len(cast("list[object]", schema[key])))
            if not combine(f"{at}/{key}/{index}" in finite for index in members):
                return False
    return any(all(path in finite for path in _needed(kind, schema, at)) for kind in types_of(schema, "string"))


def _needed(kind: object, schema: Schema, at: str) -> list[str]:
    """Return the pointers of the member schemas that every value of this type contains."""
    if kind == "object":
        properties = cast("Schema", schema.get("properties", {}))
        required = {str(name) for name in cast("list[object]", schema.get("required", []))} & properties.keys()
        return [f"{at}/properties/{escape_pointer(name)}" for name in required]
    if kind == "array":
        fewest = int(cast("int", schema.get("minItems", 0)))
        first = len(cast("list[object]", schema.get("prefixItems", [])))
        rest = [f"{at}/items"] if fewest > first and "items" in schema else []
        return [f"{at}/prefixItems/{index}" for index in range(min(fewest, first))] + rest
    return []
