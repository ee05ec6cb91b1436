"""Rewrites keywords that llguidance lacks to those that it has.

Where that is impossible, the keyword is left out: the grammar then allows more than the schema, and a `SchemaValidator`
checks the answer. Children of the rewritten schemas are rewritten already.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from vlrun.structured.schema_refs import Schema, resolve, subschemas, types_of
from vlrun.structured.schema_validator import SchemaValidator, canonical

MAX_BRANCHES = 3
"""Dependencies of one object in its grammar: each doubles the number of alternatives. The others are checked."""
MAX_ORDERS = 120
"""Orders of all items of a set, such as that of 5 constants, in its grammar. Larger sets are checked."""
MAX_LENGTH = 500
"""Characters of a property name in its grammar. Other lengths are checked."""

CHECKED = frozenset(
    "not if dependentRequired dependentSchemas contains propertyNames uniqueItems".split()
    + "unevaluatedProperties unevaluatedItems".split()
)
"""Keywords that need a check of the answer. Some of their rewrites are exact, but checking is cheap."""

_CHARACTER = "[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}"
_PATH = f"(?:{_CHARACTER})"
_SEGMENT = f"(?:{_CHARACTER.replace(':', '', 1)})"
_VARIABLE = "[A-Za-z0-9_]+(?:\\.[A-Za-z0-9_]+)*(?::[1-9][0-9]{0,3}|\\*)?"
_REFERENCE = (
    f"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[A-Za-z0-9.-]+(?::[0-9]{{1,5}})?(?:/{_PATH}*)*|/(?:{_PATH}+(?:/{_PATH}*)*)?"
    f"|{_SEGMENT}+(?:/{_PATH}*)*)?(?:\\?(?:[/?]|{_CHARACTER})*)?(?:#(?:[/?]|{_CHARACTER})*)?$"
)
FORMAT_PATTERNS: Mapping[str, str] = {
    "json-pointer": "^(?:/(?:[^/~]|~[01])*)*$",
    "relative-json-pointer": "^(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^/~]|~[01])*)*)$",
    "uri-reference": _REFERENCE,
    "iri-reference": _REFERENCE,
    "uri-template": (
        f"^(?:[A-Za-z0-9._~:/?#@!$&()*+,;=-]|%[0-9A-Fa-f]{{2}}|\\{{[+#./;?&]?{_VARIABLE}(?:,{_VARIABLE})*\\}})*$"
    ),
}
"""Patterns of formats that llguidance lacks; each matches only strings of its format."""
NARROWER_FORMATS: Mapping[str, str] = {"idn-email": "email", "idn-hostname": "hostname", "iri": "uri"}
"""Formats that llguidance has, for wider ones that it lacks."""


def rewrite(schema: Schema, given: Schema) -> Schema | bool:
    """Rewrite a schema, in place, without its members.

    Args:
        schema: The schema with rewritten members.
        given: The same schema with its members as they were given.

    Returns:
        The schema; False if no value matches it.
    """
    for keyword, rewritten in _REWRITES.items():
        if keyword in schema and rewritten(schema, given) is False:
            return False
    return schema


def _require(schema: Schema, *others: object) -> None:
    """Add schemas that the value must match too."""
    if added := [other for other in others if other is not True]:
        schema["allOf"] = [*cast("list[object]", schema.get("allOf", [])), *added]


def _format(schema: Schema, _: Schema) -> None:
    name = str(schema["format"])
    if name in FORMAT_PATTERNS:
        _require(schema, {"pattern": FORMAT_PATTERNS[name]})
    if name in FORMAT_PATTERNS or name == "regex":  # is checked
        del schema["format"]
    elif name in NARROWER_FORMATS:
        schema["format"] = NARROWER_FORMATS[name]


def _not(schema: Schema, _: Schema) -> bool:
    complement = schema.pop("not")
    if isinstance(complement, ExceptValues):
        return complement.leave_out(schema)
    if complement is not None:
        _require(schema, complement)
    return complement is not False


class ExceptValues:
    """All values but some."""

    def __init__(self, values: list[object]) -> None:
        self._values = frozenset(map(canonical, values))

    def leave_out(self, schema: Schema) -> bool:
        """Leave the values out of a schema, in place. Return whether others are left."""
        given = [schema.pop("const")] if "const" in schema else schema.get("enum")
        if given is None and types_of(schema, "") == ["boolean"]:
            given = [True, False]
        if given is not None:
            schema["enum"] = [value for value in cast("list[object]", given) if canonical(value) not in self._values]
            return bool(schema["enum"])
        if self._values == {'""'} and types_of(schema, "") == ["string"]:
            schema["minLength"] = max(1, int(cast("int", schema.get("minLength", 0))))
        return True


def _if(schema: Schema, given: Schema) -> bool:
    condition, then, otherwise = schema.pop("if"), schema.pop("then", True), schema.pop("else", True)
    if then is True and otherwise is True:
        return True
    if isinstance(condition, bool):
        _require(schema, then if condition else otherwise)
    elif branches := list(_branches(schema, cast("Schema", given["if"]), then, otherwise)):
        _require(schema, {"anyOf": branches})
    elif then is not True and otherwise is not True:
        _require(schema, {"anyOf": [then, otherwise]})
    return True


def _branches(schema: Schema, condition: Schema, then: object, otherwise: object) -> Iterator[Schema]:
    """Yield both branches of a condition on the value of one required property with known values."""
    properties = condition.get("properties")
    if not condition.keys() <= {"properties", "required", "type"} or not isinstance(properties, dict):
        return
    name, test = next(iter(properties.items()), ("", None))
    known = cast("Schema", schema.get("properties", {})).get(name)
    required = cast("list[object]", schema.get("required", []))
    others = {*cast("list[object]", condition.get("required", []))} - {name}
    if len(properties) != 1 or others or name not in required or types_of(schema, "") != ["object"]:
        return
    values, tested = _values(known), _values(test)
    if values is None or tested is None:
        return
    chosen = {canonical(value) for value in tested}
    for branch, holds in ((then, True), (otherwise, False)):
        if matching := [value for value in values if (canonical(value) in chosen) == holds]:
            either: Schema = {"properties": {name: {"enum": matching}}}
            _require(either, branch)
            yield either


def _values(schema: object) -> list[object] | None:
    """Return the values of a schema with constants and perhaps a type; None for others."""
    if not isinstance(schema, dict) or not schema.keys() <= {"const", "enum", "type", "title", "description"}:
        return None
    if schema.get("type") == "boolean" and len(schema) == 1:
        return [True, False]
    return [schema["const"]] if "const" in schema else cast("list[object] | None", schema.get("enum"))


def _dependent(schema: Schema, _: Schema) -> None:
    """Replace both kinds of dependencies by alternatives: the property is absent, or what depends on it holds."""
    required = cast("Mapping[str, list[str]]", schema.pop("dependentRequired", {}))
    schemas = cast("Schema", schema.pop("dependentSchemas", {}))
    dependents: list[tuple[str, Schema]] = [(name, {"required": [name, *others]}) for name, others in required.items()]
    for name, dependent in schemas.items():
        present: Schema = {"required": [name]}
        _require(present, dependent)
        dependents.append((name, present))
    for name, present in dependents[:MAX_BRANCHES]:
        _require(schema, {"anyOf": [{"properties": {name: False}}, present]})


def _contains(schema: Schema, _: Schema) -> None:
    del schema["contains"]
    fewest = max(int(cast("int", schema.pop("minContains", 1))), int(cast("int", schema.get("minItems", 0))))
    schema.pop("maxContains", None)
    if fewest:
        schema["minItems"] = fewest


def _property_names(schema: Schema, given: Schema) -> None:
    schema.pop("propertyNames")
    names = cast("Schema | bool", given["propertyNames"])
    if any("$ref" in one for _, one in subschemas(names, "#") if isinstance(one, dict)):  # it leads out of `names`
        return
    validator = SchemaValidator(names)
    properties = cast("Schema", schema.get("properties", {}))
    for name in properties:
        if validator.violation(name):
            properties[name] = False
    additional = schema.get("additionalProperties", True)
    if "patternProperties" in schema or additional is False:
        return
    values = [] if names is False else _values(names)
    if values is not None:
        added = {name: additional for name in values if isinstance(name, str)}
        schema["properties"], schema["additionalProperties"] = {**added, **properties}, False
    elif additional is True or not properties:
        pattern = _pattern_of_name(cast("Schema", names))
        if pattern is not None:
            schema["patternProperties"], schema["additionalProperties"] = {pattern: additional}, False


def _pattern_of_name(names: Schema) -> str | None:
    """Return one pattern for a schema of names, translated for llguidance; None if there is none."""
    from vlrun.structured.schema_pattern import translate_pattern

    keys = names.keys() - {"type"}
    if keys == {"pattern"}:
        pattern = translate_pattern(str(names["pattern"]), "propertyNames")
        return pattern.required[0] if len(pattern.required) == 1 else None
    low, high = (int(cast("int", names.get(key, 0))) for key in ("minLength", "maxLength"))
    if not keys or not keys <= {"minLength", "maxLength"} or max(low, high) > MAX_LENGTH:
        return None
    return f"^(?s:.){{{low},{high if 'maxLength' in names else ''}}}$"


def _unique_items(schema: Schema, _: Schema) -> None:
    del schema["uniqueItems"]
    values = _values(schema.get("items"))
    if values is not None and "prefixItems" not in schema:
        different = {canonical(value): {"const": value} for value in values}
        longest = min(len(different), int(cast("int", schema.get("maxItems", len(different)))))
        schema["maxItems"] = longest
        if longest > 1 and math.perm(len(different), longest) <= MAX_ORDERS:
            orders = itertools.permutations(different.values(), longest)
            _require(schema, {"anyOf": [{"prefixItems": list(order), "items": False} for order in orders]})


def _leave_out(schema: Schema, _: Schema) -> None:
    """Leave out keywords that assert nothing without the one that precedes them."""
    for keyword in ("then", "else", "minContains", "maxContains"):
        schema.pop(keyword, None)


_REWRITES: Mapping[str, Callable[[Schema, Schema], bool | None]] = {
    "format": _format,
    "not": _not,
    "if": _if,
    "dependentRequired": _dependent,
    "dependentSchemas": _dependent,
    "contains": _contains,
    **dict.fromkeys(("then", "else", "minContains", "maxContains"), _leave_out),
    "propertyNames": _property_names,
    "uniqueItems": _unique_items,
}


def close_unevaluated(schema: Schema, schemas: Mapping[str, object]) -> None:
    """Replace ``unevaluatedProperties`` and ``unevaluatedItems`` of one schema, in place, by what they mean here.

    Args:
        schema: The schema.
        schemas: All schemas of the document by their pointers.
    """
    properties, items = schema.pop("unevaluatedProperties", True), schema.pop("unevaluatedItems", True)
    evaluated = _evaluated_properties(schema, schemas, 0)
    if properties is not True and evaluated is not None:
        names, patterns = evaluated
        schema["properties"] = {**dict.fromkeys(names, True), **cast("Schema", schema.get("properties", {}))}
        if patterns:
            own = cast("Schema", schema.get("patternProperties", {}))
            schema["patternProperties"] = {**dict.fromkeys(patterns, True), **own}
        schema["additionalProperties"] = properties
    others = {"allOf", "anyOf", "oneOf", "$ref", "items"} & schema.keys()
    if items is not True and not others:
        schema["items"] = items


def _evaluated_properties(
    schema: object, schemas: Mapping[str, object], nesting: int
) -> tuple[list[str], list[str]] | None:
    """Return the names and patterns of properties that a schema always looks at; None if others may be too."""
    if not isinstance(schema, dict):
        return [], []
    others = {"additionalProperties", "unevaluatedProperties", "anyOf", "oneOf"} & schema.keys()
    if others or nesting > MAX_NESTING:
        return None
    names, patterns = ([*cast("Schema", schema.get(key, {}))] for key in ("properties", "patternProperties"))
    members = [*cast("list[object]", schema.get("allOf", []))]
    if "$ref" in schema:
        members.append(resolve(schema, schemas))
    for member in members:
        evaluated = _evaluated_properties(member, schemas, nesting + 1)
        if evaluated is None:
            return None
        names += evaluated[0]
        patterns += evaluated[1]
    return names, patterns


MAX_NESTING = 8
"""References and ``allOf`` that are followed to the properties that they look at."""
