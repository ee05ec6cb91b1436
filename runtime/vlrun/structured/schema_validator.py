"""Checks a value against a schema: what no grammar enforces is checked when the answer is complete.

Follows JSON Schema draft 2020-12; formats are left to the grammar. Each pair of schema and value is checked once, so
that the time is bounded by the product of their sizes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, cast
from urllib.parse import unquote

from vlrun.errors import OptionError
from vlrun.structured.pattern_match import PatternMatcher
from vlrun.structured.schema_dialects import modernize
from vlrun.structured.schema_pattern import translate_pattern
from vlrun.structured.schema_refs import Schema, escape_pointer, subschemas

MAX_CHECKS = 200_000
"""Pairs of a schema and a value in one answer: at most a second or two."""

Evaluated: TypeAlias = frozenset[str | int]
"""The names or indices of the members that a schema has looked at."""


class Mismatch(Exception):
    """A value that does not match; the message is the JSON pointer of the violated keyword."""


class SchemaValidator:
    """Checks values against a schema.

    Args:
        schema: A schema that `check_schema` accepts, as it was given.

    Raises:
        OptionError: A reference names the modern place of an older keyword.
    """

    def __init__(self, schema: Schema | bool) -> None:
        self._root = schema
        self._schemas = dict(subschemas(schema, "#"))
        for at, member in self._schemas.items():
            if isinstance(member, dict) and unquote(str(member.get("$ref", "#"))) not in self._schemas:
                raise OptionError(f"the schema's reference at {at} leads to no schema in the schema as it was given")
        self._patterns: dict[str, Callable[[str], bool]] = {}

    def violation(self, value: object) -> str | None:
        """Return the JSON pointer of a keyword that a value violates; None if it matches.

        Raises:
            OptionError: The value is too large to be checked.
        """
        try:
            _Check(self._schemas, self._patterns).evaluate("#", self._root, value)
        except Mismatch as mismatch:
            return str(mismatch)
        return None


class _Check:
    """The check of one value."""

    def __init__(self, schemas: Mapping[str, object], patterns: dict[str, Callable[[str], bool]]) -> None:
        self._schemas = schemas
        self._patterns = patterns
        self._known: dict[tuple[str, int], Evaluated | Mismatch] = {}

    def evaluate(self, where: str, schema: object, value: object) -> Evaluated:
        """Return what a matching value's schema has looked at. Raises Mismatch."""
        if not isinstance(schema, dict):
            if schema is False:
                raise Mismatch(where)
            return frozenset()
        key = (where, id(value))
        if key not in self._known:
            if len(self._known) == MAX_CHECKS:
                raise OptionError("the answer is too large to be checked against its schema")
            self._known[key] = Mismatch(where)  # a reference that leads back to itself matches nothing
            try:
                self._known[key] = self._match(where, modernize(schema, where), value)
            except Mismatch as mismatch:
                self._known[key] = mismatch
        known = self._known[key]
        if isinstance(known, Mismatch):
            raise known
        return known

    def _match(self, where: str, schema: Schema, value: object) -> Evaluated:
        for keyword, expected in schema.items():
            if keyword in ASSERTIONS and not ASSERTIONS[keyword](expected, value):
                raise Mismatch(f"{where}/{keyword}")
        if isinstance(value, str) and "pattern" in schema and not self._matches(str(schema["pattern"]), value):
            raise Mismatch(f"{where}/pattern")
        evaluated = set[str | int]()
        for found in self._in_place(where, schema, value):
            evaluated |= found
        if isinstance(value, dict):
            evaluated |= self._members(where, schema, value)
        if isinstance(value, list):
            evaluated |= self._items(where, schema, value)
        keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        keyword = "unevaluatedProperties" if isinstance(value, dict) else "unevaluatedItems"
        if keyword in schema:
            for key in keys:
                if key not in evaluated:
                    self.evaluate(f"{where}/{keyword}", schema[keyword], value[key])  # type: ignore[index]
            evaluated |= set(keys)
        return frozenset(evaluated)

    def _in_place(self, where: str, schema: Schema, value: object) -> Iterator[Evaluated]:
        """Yield what schemas of the same value have looked at."""
        if "$ref" in schema:
            target = unquote(str(schema["$ref"]))
            yield self.evaluate(target, self._schemas[target], value)
        for index, member in enumerate(_list(schema, "allOf")):
            yield self.evaluate(f"{where}/allOf/{index}", member, value)
        for keyword in ("anyOf", "oneOf"):
            found = [
                matched
                for index, member in enumerate(_list(schema, keyword))
                if (matched := self._try(f"{where}/{keyword}/{index}", member, value)) is not None
            ]
            if keyword in schema and (not found or (keyword == "oneOf" and len(found) > 1)):
                raise Mismatch(f"{where}/{keyword}")
            yield from found
        if "not" in schema and self._try(f"{where}/not", schema["not"], value) is not None:
            raise Mismatch(f"{where}/not")
        if "if" in schema:
            condition = self._try(f"{where}/if", schema["if"], value)
            branch = "else" if condition is None else "then"
            yield condition or frozenset()
            yield self.evaluate(f"{where}/{branch}", schema.get(branch, True), value)
        for name, member in _dict(schema, "dependentSchemas").items():
            if isinstance(value, dict) and name in value:
                yield self.evaluate(f"{where}/dependentSchemas/{escape_pointer(name)}", member, value)

    def _members(self, where: str, schema: Schema, value: dict[str, object]) -> Evaluated:
        properties, patterns = _dict(schema, "properties"), _dict(schema, "patternProperties")
        evaluated = set[str | int]()
        for name, member in value.items():
            if "propertyNames" in schema:
                self.evaluate(f"{where}/propertyNames", schema["propertyNames"], name)
            applied = [("properties", name, properties[name])] if name in properties else []
            applied += [("patternProperties", key, one) for key, one in patterns.items() if self._matches(key, name)]
            for keyword, key, one in applied:
                self.evaluate(f"{where}/{keyword}/{escape_pointer(key)}", one, member)
            if not applied and "additionalProperties" in schema:
                self.evaluate(f"{where}/additionalProperties", schema["additionalProperties"], member)
            if applied or "additionalProperties" in schema:
                evaluated.add(name)
        return frozenset(evaluated)

    def _items(self, where: str, schema: Schema, value: list[object]) -> Evaluated:
        first = _list(schema, "prefixItems")
        evaluated = set[str | int](range(min(len(first), len(value))))
        for index, (one, member) in enumerate(zip(first, value, strict=False)):
            self.evaluate(f"{where}/prefixItems/{index}", one, member)
        if "items" in schema:
            for member in value[len(first) :]:
                self.evaluate(f"{where}/items", schema["items"], member)
            evaluated |= set(range(len(value)))
        if "contains" in schema:
            contained = [
                index
                for index, member in enumerate(value)
                if self._try(f"{where}/contains", schema["contains"], member) is not None
            ]
            low, high = schema.get("minContains", 1), schema.get("maxContains", math.inf)
            if not cast("float", low) <= len(contained) <= cast("float", high):
                raise Mismatch(f"{where}/contains")
            evaluated |= set(contained)
        return frozenset(evaluated)

    def _try(self, where: str, schema: object, value: object) -> Evaluated | None:
        try:
            return self.evaluate(where, schema, value)
        except Mismatch:
            return None

    def _matches(self, pattern: str, text: str) -> bool:
        if pattern not in self._patterns:
            translated = translate_pattern(pattern, "pattern")
            required = [PatternMatcher(one) for one in translated.required]
            forbidden = [PatternMatcher(one) for one in translated.forbidden]
            self._patterns[pattern] = lambda text: (
                all(one.matches(text) for one in required) and not any(one.matches(text) for one in forbidden)
            )
        return self._patterns[pattern](text)


def canonical(value: object) -> str:
    """Return a text that is the same for equal JSON values, such as 1 and 1.0, and differs for others."""
    return json.dumps(_integral(value), sort_keys=True)


def _integral(value: object) -> object:
    if isinstance(value, list):
        return [_integral(member) for member in value]
    if isinstance(value, dict):
        return {name: _integral(member) for name, member in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _list(schema: Schema, keyword: str) -> list[object]:
    return cast("list[object]", schema.get(keyword, []))


def _dict(schema: Schema, keyword: str) -> Schema:
    return cast("Schema", schema.get(keyword, {}))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Mapping[str, Callable[[object], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and cast("float", value) % 1 == 0,
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _for(kind: type | tuple[type, ...], holds: Callable[[Any, Any], bool]) -> Callable[[object, object], bool]:
    """Return an assertion that holds for all values of other types."""
    return lambda expected, value: not isinstance(value, kind) or isinstance(value, bool) or holds(expected, value)


def _is_type(expected: object, value: object) -> bool:
    return any(_TYPES[str(name)](value) for name in (expected if isinstance(expected, list) else [expected]))


def _is_regex(expected: object, value: object) -> bool:
    try:
        translate_pattern(str(value), "format")
    except OptionError:
        return expected != "regex"
    return True


ASSERTIONS: Mapping[str, Callable[..., bool]] = {
    "type": _is_type,
    "const": lambda expected, value: canonical(expected) == canonical(value),
    "enum": lambda expected, value: canonical(value) in map(canonical, expected),
    "minLength": _for(str, lambda low, value: len(value) >= low),
    "maxLength": _for(str, lambda high, value: len(value) <= high),
    "format": _for(str, _is_regex),
    "minimum": _for((int, float), lambda low, value: value >= low),
    "maximum": _for((int, float), lambda high, value: value <= high),
    "exclusiveMinimum": _for((int, float), lambda low, value: value > low),
    "exclusiveMaximum": _for((int, float), lambda high, value: value < high),
    "multipleOf": _for((int, float), lambda step, value: value % step == 0),
    "minItems": _for(list, lambda low, value: len(value) >= low),
    "maxItems": _for(list, lambda high, value: len(value) <= high),
    "uniqueItems": _for(list, lambda unique, value: not unique or len(set(map(canonical, value))) == len(value)),
    "minProperties": _for(dict, lambda low, value: len(value) >= low),
    "maxProperties": _for(dict, lambda high, value: len(value) <= high),
    "required": _for(dict, lambda names, value: value.keys() >= set(names)),
    "dependentRequired": _for(
        dict, lambda names, value: all(value.keys() >= set(names[name]) for name in names.keys() & value.keys())
    ),
}
"""Keywords that look at the value alone."""
