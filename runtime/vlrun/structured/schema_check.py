"""Accepts the JSON Schema keywords that llguidance implements exactly, within limits, and rejects all others.

Follows JSON Schema draft 2020-12 and the deviations of llguidance 1.9 from it. No keyword is silently ignored. Numbers
are decimals, as in the draft: rounded to binary, a value may equal an exclusive bound.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import cast

from vlrun.errors import OptionError
from vlrun.storage.text_files import without_byte_order_mark
from vlrun.structured.pattern_names import fold_exhausted_patterns
from vlrun.structured.schema_dialects import DRAFT_04, SUPPORTED_FORMATS, modernize
from vlrun.structured.schema_pattern import translate_pattern
from vlrun.structured.schema_refs import Schema, check_refs, escape_pointer, types_of
from vlrun.structured.schema_unions import relax_disjoint_unions

MAX_BYTES = 64 * 1024  # schema as JSON text
MAX_DEPTH = 48  # nesting of arrays and objects
MAX_VALUES = 4000  # values in the schema, without keys
MAX_PROPERTIES = 500  # properties or property patterns of one object
MAX_COUNT = 10_000  # minLength, maxLength, minItems, maxItems, minProperties, maxProperties
MAX_NUMBER = 2**53  # absolute value; larger integers are not exact as floats
MIN_FRACTION = 1e-9  # smallest nonzero absolute value
MAX_MULTIPLE = 1000  # multipleOf
MAX_STRING = 2000  # characters of a constant or property name
DRAFTS = DRAFT_04 | frozenset(
    f"http{s}://json-schema.org/{draft}{end}"
    for s in ("", "s")
    for draft in ("draft-06/schema", "draft-07/schema", "draft/2019-09/schema", "draft/2020-12/schema")
    for end in ("", "#")
)
TYPES = frozenset("null boolean integer number string array object".split())


def check_schema(schema: Mapping[str, object] | bool | str) -> Schema | bool:
    """Convert a schema for llguidance: no annotations, translated patterns, integral floats as integers.

    Args:
        schema: The schema, or its JSON text.

    Raises:
        OptionError: The schema is invalid, exceeds a limit, or uses an unsupported keyword.
    """
    plain = plain_schema(schema)
    if isinstance(plain, dict):
        draft = str(plain.pop("$schema", "http://json-schema.org/draft-07/schema"))
        if draft not in DRAFTS:
            raise OptionError(f"the schema's $schema '{draft[:80]}' is none of draft-04 to draft-07, 2019-09, 2020-12")
        plain.pop("id" if draft in DRAFT_04 else "$id", None)
    checked = _schema(plain, "#")
    check_refs(checked)
    relax_disjoint_unions(checked)
    return checked


def plain_schema(schema: Mapping[str, object] | bool | str) -> object:
    """Return a copy made of plain JSON types. Raises OptionError beyond a limit, or if it is not JSON."""
    try:
        value = schema
        if isinstance(schema, str):
            if len(schema) > MAX_BYTES:
                raise OptionError(f"the schema is larger than {MAX_BYTES} bytes")
            value = json.loads(without_byte_order_mark(schema), object_pairs_hook=_unique)
        _check_extent(value, itertools.count())
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, default=dict)
        if len(text.encode()) > MAX_BYTES:
            raise OptionError(f"the schema is larger than {MAX_BYTES} bytes")
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise OptionError("the schema is not JSON", error) from error


def _unique(pairs: list[tuple[str, object]]) -> Schema:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise OptionError("the schema has the same key twice in one object")
    return members


def _check_extent(value: object, counter: Iterator[int], depth: int = 0) -> None:
    """Check depth and number of values, so that cyclic and shared structures end."""
    if depth == MAX_DEPTH:
        raise OptionError(f"the schema is nested deeper than {MAX_DEPTH} levels")
    if next(counter) == MAX_VALUES:
        raise OptionError(f"the schema has more than {MAX_VALUES} values")
    if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
        raise OptionError("the schema has a key that is not a string")
    members = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for member in members:
        _check_extent(member, counter, depth + 1)


def _schema(schema: object, where: str) -> Schema | bool:
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict):
        raise OptionError(f"the schema needs an object, true or false at {where}")
    checked: Schema = {}
    for key, value in modernize(schema, where).items():
        if key not in _KEYWORDS:
            raise _unsupported(f"{where}/{key}")
        checked[key] = _KEYWORDS[key](value, f"{where}/{key}")
    if "patternProperties" in checked:
        fold_exhausted_patterns(checked, list(schema["patternProperties"]))
    _check_combination(checked, where)
    return checked


def _check_combination(schema: Schema, where: str) -> None:
    """Check keywords that are valid alone but not together."""
    if "format" in schema and "string" not in types_of(schema, "string"):
        raise OptionError(f"the schema has a format for a type other than string at {where}")
    # Other names may repeat in an answer, and parsers keep only one of each.
    required = {str(name) for name in cast("list[object]", schema.get("required", []))}
    if int(cast("int", schema.get("minProperties", 0))) > max(1, len(required)):
        raise OptionError(f"the schema's minProperties exceeds its required properties at {where}/minProperties")


def _unsupported(where: str) -> OptionError:
    return OptionError(f"the schema uses an unsupported keyword or value at {where}")


def _schemas(value: object, where: str) -> object:
    return [_schema(member, f"{where}/{index}") for index, member in enumerate(_list(value, where))]


def _object(value: object, where: str) -> Schema:
    if not isinstance(value, dict):
        raise OptionError(f"the schema needs an object at {where}")
    if len(value) > MAX_PROPERTIES:
        raise OptionError(f"the schema has more than {MAX_PROPERTIES} members at {where}")
    return value


def _properties(value: object, where: str) -> object:
    members = _object(value, where).items()
    return {_string(name, where): _schema(member, f"{where}/{escape_pointer(name)}") for name, member in members}


def _pattern_properties(value: object, where: str) -> object:
    members = _object(value, where).items()
    return {translate_pattern(name, where): _schema(member, f"{where}/{name}") for name, member in members}


def _types(value: object, where: str) -> object:
    if not {str(name) for name in (value if isinstance(value, list) else [value])} <= TYPES:
        raise OptionError(f"the schema has an unknown type at {where}")
    return value if isinstance(value, str) else _list(value, where)


def _format(value: object, where: str) -> object:
    if not isinstance(value, str) or value not in SUPPORTED_FORMATS:
        raise _unsupported(where)
    return value


def _constant(value: object, where: str) -> object:
    if isinstance(value, str):
        return _string(value, where)
    if isinstance(value, list):
        return [_constant(member, where) for member in value]
    if isinstance(value, dict):
        return {_string(name, where): _constant(member, where) for name, member in value.items()}
    return value if isinstance(value, bool | None) else _number(-MAX_NUMBER, MAX_NUMBER, value, where)


def _string(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_STRING:
        raise OptionError(f"the schema needs a string of at most {MAX_STRING} characters at {where}")
    # Answers use one spelling per character, so that keys are unique. These characters have none.
    if any((letter < " " and letter not in "\b\f\n\r\t") or letter == "\x7f" for letter in value):
        raise OptionError(f"the schema has a control character at {where}")
    return value


def _number(low: float, high: float, value: object, where: str, *, whole: bool = False) -> int | float:
    """Check a number's range; convert an integral float to an integer."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    exact = int(number) if math.isfinite(number) and number == int(number) else number
    if not low <= exact <= high or 0 < abs(exact) < MIN_FRACTION or (whole and not isinstance(exact, int)):
        kind = "whole number" if whole else "number"
        raise OptionError(f"the schema needs a {kind} from {low} to {high} at {where}")
    return exact


def _list(value: object, where: str, *, may_be_empty: bool = False) -> list[object]:
    if not isinstance(value, list) or not (value or may_be_empty):
        raise OptionError(f"the schema needs a list with members at {where}")
    return value


_count = partial(_number, 0, MAX_COUNT, whole=True)
_bound = partial(_number, -MAX_NUMBER, MAX_NUMBER)

_KEYWORDS: Mapping[str, Callable[[object, str], object]] = {
    **dict.fromkeys(("items", "additionalProperties"), _schema),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), _schemas),
    **dict.fromkeys(("properties", "$defs", "definitions"), _properties),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _bound),
    # Decimal fractions are not exact as floats: validators would reject 0.07 as a multiple of 0.01.
    "multipleOf": partial(_number, 1, MAX_MULTIPLE, whole=True),
    "patternProperties": _pattern_properties,
    "const": _constant,
    "enum": lambda value, where: _constant(_list(value, where), where),
    "type": _types,
    "required": lambda value, where: [_string(name, where) for name in _list(value, where, may_be_empty=True)],
    "pattern": lambda value, where: translate_pattern(_string(value, where), where),
    "format": _format,
    "$ref": _string,
}
