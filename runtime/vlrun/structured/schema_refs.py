"""How a schema hangs together: references lead to schemas of the same document, answers can end, what multiplies.

Knows schemas that have passed the check of their keywords, and knows JSON pointers; knows no tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, cast
from urllib.parse import unquote

from vlrun.errors import OptionError

Schema: TypeAlias = dict[str, object]

MAX_REFS = 200
"""References in one schema."""

_REGULAR = frozenset({"pattern", "patternProperties", "multipleOf", "format", "allOf"})
_MEETING = frozenset({"$ref", "anyOf", "oneOf", "enum", "const"})
_BESIDE = frozenset({"$defs", "definitions", "type"})


def check_refs(schema: Schema | bool) -> None:
    """Raises OptionError for a reference that leads nowhere or outside, and for a schema whose answers never end."""
    places = dict(_places(schema, "#"))
    targets = {str(place["$ref"]) for place in places.values() if isinstance(place, dict) and "$ref" in place}
    if len(targets) > MAX_REFS:
        raise OptionError(f"the schema has more than {MAX_REFS} references")
    for target in targets:
        if unquote(target) not in places:
            raise OptionError(f"the schema's reference '{target[:80]}' is not supported: it leads to no schema in it")
    ends: set[str] = set()  # places of which is known that an answer to them can end
    while more := {at for at, place in places.items() if at not in ends and _ends(place, at, ends)}:
        ends |= more
    if "#" not in ends:
        raise OptionError("the schema allows no answer that ends")


def is_risky(schema: Schema | bool) -> bool:
    """Whether llguidance could be long over it: regular expressions, and schemas that it has to intersect.

    Both multiply; what is neither grows with the schema's size alone.
    """
    keywords = [set(place) - _BESIDE for _, place in _places(schema, "#") if isinstance(place, dict)]
    return any(keys & _REGULAR or (keys & _MEETING and len(keys) > 1) for keys in keywords)


def _places(schema: object, at: str) -> Iterator[tuple[str, object]]:
    """Every schema in the document with its pointer."""
    yield at, schema
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in ("items", "additionalProperties"):
            yield from _places(value, f"{at}/{key}")
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            for index, member in enumerate(cast("list[object]", value)):
                yield from _places(member, f"{at}/{key}/{index}")
        elif key in ("properties", "$defs", "definitions"):
            for name, member in cast("Schema", value).items():
                yield from _places(member, f"{at}/{key}/{name.replace('~', '~0').replace('/', '~1')}")


def _ends(place: object, at: str, ends: set[str]) -> bool:
    """Whether an answer to this schema can end, given the places where one can."""
    if not isinstance(place, dict):
        return bool(place)
    if "$ref" in place and unquote(str(place["$ref"])) not in ends:
        return False
    counts = {key: len(cast("list[object]", place.get(key, []))) for key in ("allOf", "anyOf", "oneOf")}
    if not all(f"{at}/allOf/{i}" in ends for i in range(counts["allOf"])):
        return False
    if not all(any(f"{at}/{key}/{i}" in ends for i in range(counts[key])) for key in ("anyOf", "oneOf") if counts[key]):
        return False
    types = place.get("type", "string")
    return any(_type_ends(kind, place, at, ends) for kind in (types if isinstance(types, list) else [types]))


def _type_ends(kind: object, place: Schema, at: str, ends: set[str]) -> bool:
    if kind == "object":
        named = cast("Schema", place.get("properties", {}))
        required = {str(name) for name in cast("list[object]", place.get("required", []))} & named.keys()
        inner = [f"properties/{name.replace('~', '~0').replace('/', '~1')}" for name in required]
    elif kind == "array":
        least = int(cast("int", place.get("minItems", 0)))
        first = len(cast("list[object]", place.get("prefixItems", [])))
        inner = [f"prefixItems/{i}" for i in range(min(least, first))]
        inner += ["items"] if least > first and "items" in place else []
    else:
        return True
    return all(f"{at}/{path}" in ends for path in inner)
