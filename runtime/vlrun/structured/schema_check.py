"""What a JSON schema may ask for: the keywords that llguidance honours to the letter, within limits.

Knows JSON Schema draft 2020-12 and the places where llguidance 1.9 reads it otherwise; knows no tokens and imports no
llguidance. Whatever is not honoured is refused, unknown keywords and formats too: a schema is never half obeyed.
Numbers are decimals, as the draft says: a reader that rounds to binary may see a bound met that was to be exclusive.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import TypeAlias, cast

from vlrun.errors import OptionError
from vlrun.structured.schema_pattern import translate
from vlrun.structured.schema_refs import check_refs

Schema: TypeAlias = dict[str, object]

MAX_BYTES = 64 * 1024
"""A schema as JSON text."""
MAX_DEPTH = 48
"""Arrays and objects of the schema inside each other."""
MAX_VALUES = 4000
"""Values in the schema, keys not counted."""
MAX_PROPERTIES = 500
"""Properties, or patterns of properties, of one object."""
MAX_COUNT = 10_000
"""The largest minLength, maxLength, minItems, maxItems, minProperties, maxProperties."""
MAX_NUMBER = 2**53
"""The largest number, either side of zero: beyond it, whole numbers are no longer exact in binary."""
MIN_FRACTION = 1e-9
"""The least number above zero."""
MAX_MULTIPLE = 1000
"""The largest multipleOf."""
MAX_STRING = 2000
"""Characters in a constant or a name of a property."""
FORMATS = frozenset("date-time time date duration email hostname ipv4 ipv6 uuid uri".split())
DRAFTS = frozenset(
    f"http{s}://json-schema.org/{draft}{end}"
    for s in ("", "s")
    for draft in ("draft-06/schema", "draft-07/schema", "draft/2019-09/schema", "draft/2020-12/schema")
    for end in ("", "#")
)
TYPES = frozenset("null boolean integer number string array object".split())

_ANNOTATIONS = frozenset(
    "title description default examples deprecated readOnly writeOnly $comment discriminator".split()
)
_COUNTS = frozenset("minLength maxLength minItems maxItems minProperties maxProperties".split())
_BOUNDS = frozenset("minimum maximum exclusiveMinimum exclusiveMaximum".split())
_ONE = frozenset({"items", "additionalProperties"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions"})


def checked(schema: Mapping[str, object] | bool | str) -> Schema | bool:
    """The schema as llguidance is to see it: annotations taken out, patterns translated, whole floats as integers.

    ``schema`` may be JSON text. Raises OptionError for what is not honoured, invalid, or beyond a limit.
    """
    plain = plain_schema(schema)
    if plain is True:
        return True
    cleaned = _schema(_without_root_marks(plain), "#")
    check_refs(cleaned)
    return cleaned


def plain_schema(schema: Mapping[str, object] | bool | str) -> object:
    """A copy made of dict, list, str, int, float, bool and None alone.

    Raises OptionError beyond a limit, and for what is no JSON.
    """
    try:
        value = schema
        if isinstance(schema, str):
            if len(schema) > MAX_BYTES:
                raise OptionError(f"the schema is larger than {MAX_BYTES} bytes")
            value = json.loads(schema, object_pairs_hook=_unique)
        _within_limits(value)
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, default=dict)
        if len(text.encode()) > MAX_BYTES:
            raise OptionError(f"the schema is larger than {MAX_BYTES} bytes")
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise OptionError("the schema is no JSON", error) from error


def _unique(pairs: list[tuple[str, object]]) -> Schema:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise OptionError("the schema has the same key twice in one object")
    return members


def _within_limits(value: object) -> None:
    """Breadth first and counted, so that deep, endless and shared structures end here."""
    level, count = [value], 0
    for _ in range(MAX_DEPTH):
        inner = list(_inside(level, MAX_VALUES - count))
        count += len(inner)
        if count >= MAX_VALUES:
            raise OptionError(f"the schema has more than {MAX_VALUES} values")
        if not inner:
            return
        level = inner
    raise OptionError(f"the schema is nested deeper than {MAX_DEPTH} levels")


def _inside(level: list[object], limit: int) -> Iterator[object]:
    for value in level:
        if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
            raise OptionError("the schema has a key that is no string")
        members = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        for member in members:
            yield member
            limit -= 1
            if limit <= 0:
                return


def _without_root_marks(schema: object) -> object:
    if not isinstance(schema, dict):
        return schema
    if "$schema" in schema and schema["$schema"] not in DRAFTS:
        raise OptionError("the schema's $schema is none of draft-06, draft-07, 2019-09 and 2020-12")
    return {key: value for key, value in schema.items() if key not in ("$schema", "$id")}


def _schema(schema: object, where: str) -> Schema | bool:
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict):
        raise OptionError(f"the schema has neither an object nor true or false at {where}")
    cleaned: Schema = {}
    for key, value in schema.items():
        if key not in _ANNOTATIONS:
            cleaned[key] = _keyword(key, value, f"{where}/{key}")
    _check_together(cleaned, where)
    return cleaned


def _keyword(key: str, value: object, where: str) -> object:  # noqa: PLR0911  # one line a kind of keyword
    if key in _ONE:
        return _schema(value, where)
    if key in _LISTS:
        return [_schema(member, f"{where}/{i}") for i, member in enumerate(_list(value, where))]
    if key in _MAPS:
        return _map(key, value, where)
    if key in _COUNTS:
        return int(_number(value, where, 0, MAX_COUNT, whole=True))
    if key in _BOUNDS:
        return _number(value, where, -MAX_NUMBER, MAX_NUMBER)
    if key == "multipleOf":
        # Fractions of ten are not exact in binary: readers would find 0.07 to be no multiple of 0.01.
        return int(_number(value, where, 1, MAX_MULTIPLE, whole=True))
    if key in ("const", "enum"):
        return _constant(value if key == "const" else _list(value, where), where)
    return _other(key, value, where)


def _other(key: str, value: object, where: str) -> object:
    if key == "type":
        if not {*(map(str, value) if isinstance(value, list) else (str(value),))} <= TYPES:
            raise OptionError(f"the schema has an unknown type at {where}")
        return value if isinstance(value, str) else _list(value, where)
    if key == "required":
        return [_string(name, where) for name in _list(value, where, may_be_empty=True)]
    if key == "pattern":
        return translate(_string(value, where), where)
    if key == "format" and value in FORMATS:
        return value
    if key == "$ref":
        return _string(value, where)
    if key == "uniqueItems" and value is False:
        return value
    raise OptionError(f"the schema asks for something that is not supported at {where}")


def _map(key: str, value: object, where: str) -> Schema:
    if not isinstance(value, dict):
        raise OptionError(f"the schema has no object at {where}")
    if len(value) > MAX_PROPERTIES:
        raise OptionError(f"the schema has more than {MAX_PROPERTIES} members at {where}")
    if key == "patternProperties":
        return {translate(name, where): _schema(member, f"{where}/{name}") for name, member in value.items()}
    return {_string(name, where): _schema(member, f"{where}/{_escaped(name)}") for name, member in value.items()}


def _check_together(schema: Schema, where: str) -> None:
    """Keywords that are right alone and wrong together."""
    types = schema.get("type", "string")
    if "format" in schema and "string" not in (types if isinstance(types, list) else [types]):
        raise OptionError(f"the schema has a format for something that is no string at {where}")
    # Names outside `properties` may come twice, so that fewer are left for the reader.
    required = {str(name) for name in cast("list[object]", schema.get("required", []))}
    if int(cast("int", schema.get("minProperties", 0))) > max(1, len(required)):
        raise OptionError(f"the schema asks for more properties than it names as required at {where}/minProperties")
    if schema.pop("uniqueItems", False):
        raise OptionError(f"the schema asks for something that is not supported at {where}/uniqueItems")


def _constant(value: object, where: str) -> object:
    if isinstance(value, str):
        return _string(value, where)
    if isinstance(value, list):
        return [_constant(member, where) for member in value]
    if isinstance(value, dict):
        return {_string(name, where): _constant(member, where) for name, member in value.items()}
    return value if isinstance(value, bool | None) else _number(value, where, -MAX_NUMBER, MAX_NUMBER)


def _string(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_STRING:
        raise OptionError(f"the schema has no string of at most {MAX_STRING} characters at {where}")
    # In an answer a character has one spelling, or a name could be told in two ways; these have none.
    if any((letter < " " and letter not in "\b\f\n\r\t") or letter == "\x7f" for letter in value):
        raise OptionError(f"the schema has a control character at {where}")
    return value


def _number(value: object, where: str, low: float, high: float, *, whole: bool = False) -> int | float:
    """A number in its range; a whole float becomes an integer."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    exact = int(number) if math.isfinite(number) and number == int(number) else number
    if not low <= exact <= high or 0 < abs(exact) < MIN_FRACTION or (whole and not isinstance(exact, int)):
        kind = "whole number" if whole else "number"
        raise OptionError(f"the schema needs a {kind} from {low} to {high} at {where}")
    return exact


def _list(value: object, where: str, *, may_be_empty: bool = False) -> list[object]:
    if not isinstance(value, list) or not (value or may_be_empty):
        raise OptionError(f"the schema has no list with members at {where}")
    return value


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
