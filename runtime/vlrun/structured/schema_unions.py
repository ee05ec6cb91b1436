"""Replaces ``oneOf`` by ``anyOf``: llguidance does not look behind references.

Where a value may match two members, the answer is checked.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import cast

from vlrun.structured.schema_refs import Schema, resolve, subschemas

MAX_MEMBERS = 100
"""Of a ``oneOf``: all pairs are compared. Answers under longer ones are checked."""
MAX_NESTING = 4
"""Levels of properties and references within which members are compared."""

_TYPES = frozenset("null boolean number string array object".split())


def relax_unions(schema: Schema | bool) -> bool:
    """Replace ``oneOf`` in a checked schema, in place, for example in unions with a discriminating constant.

    Returns:
        Whether it is certain that no value matches two members.
    """
    schemas = dict(subschemas(schema, "#"))
    certain = True
    for member in schemas.values():
        if not isinstance(member, dict) or "oneOf" not in member:
            continue
        members = cast("list[object]", member.pop("oneOf"))
        certain &= len(members) <= MAX_MEMBERS and all(
            _disjoint(one, other, schemas, MAX_NESTING) for one, other in itertools.combinations(members, 2)
        )
        if "anyOf" in member:
            member["allOf"] = [*cast("list[object]", member.get("allOf", [])), {"anyOf": members}]
        else:
            member["anyOf"] = members
    return certain


def _disjoint(one: object, other: object, schemas: Mapping[str, object], nesting: int) -> bool:
    """Return whether it is certain that no value matches both schemas."""
    ours, theirs = (list(_facets(schema, schemas, nesting)) for schema in (one, other))
    values = [value for side in (ours, theirs) if (value := _constants(side)) is not None]
    if len(values) == 2 and not values[0] & values[1]:
        return True
    shared = _types(ours) & _types(theirs)
    if not shared:
        return True
    if shared != {"object"} or nesting == 0:
        return False
    mine, others = _required(ours), _required(theirs)
    return any(_disjoint(mine[name], others[name], schemas, nesting - 1) for name in mine.keys() & others.keys())


def _facets(schema: object, schemas: Mapping[str, object], nesting: int) -> Iterator[Schema]:
    """Yield the schemas that a value must match: this one, and those that it refers to."""
    for _ in range(nesting + 1):
        if not isinstance(schema, dict):
            return
        yield schema
        schema = resolve(schema, schemas)


def _constants(facets: list[Schema]) -> frozenset[str] | None:
    """Return the values of the first facet with constants, as JSON; None if there are none."""
    for facet in facets:
        if "const" in facet or "enum" in facet:
            values = [facet["const"]] if "const" in facet else cast("list[object]", facet["enum"])
            return frozenset(json.dumps(value, sort_keys=True) for value in values)
    return None


def _types(facets: list[Schema]) -> frozenset[str]:
    types = _TYPES
    for facet in facets:
        if "type" in facet:
            given = facet["type"] if isinstance(facet["type"], list) else [facet["type"]]
            types &= {"number" if name == "integer" else str(name) for name in given}
    return types


def _required(facets: list[Schema]) -> Schema:
    """Return the schemas of the required properties."""
    names = {str(name) for facet in facets for name in cast("list[object]", facet.get("required", []))}
    properties = [cast("Schema", facet.get("properties", {})) for facet in facets]
    return {name: known[name] for known in properties for name in names & known.keys()}
