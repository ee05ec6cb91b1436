"""Accepts the JSON Schema keywords that are enforced, within limits, and rejects all others.

Follows JSON Schema draft 2020-12 and the deviations of llguidance 1.9 from it. What llguidance lacks is rewritten, or
left to a check of the answer. Unknown keywords are annotations, as in the draft; a note names those that resemble a
known one. Numbers are decimals, as in the draft: rounded to binary, a value may equal an exclusive bound.
"""

from __future__ import annotations

import difflib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

from vlrun.errors import OptionError
from vlrun.storage.text_files import without_byte_order_mark
from vlrun.structured.json_style import DuplicateName, unique_names
from vlrun.structured.pattern_names import fold_exhausted_patterns
from vlrun.structured.schema_dialects import DRAFT_04, modernize
from vlrun.structured.schema_pattern import Pattern, translate_pattern
from vlrun.structured.schema_refs import (
    NAMED_SCHEMAS,
    ONE_SCHEMA,
    SCHEMA_LISTS,
    Schema,
    check_refs,
    escape_pointer,
    subschemas,
    types_of,
)
from vlrun.structured.schema_rewrites import CHECKED, ExceptValues, close_unevaluated, rewrite
from vlrun.structured.schema_unions import relax_unions
from vlrun.structured.schema_validator import SchemaValidator

MAX_BYTES = 64 * 1024  # schema as JSON text
MAX_DEPTH = 48  # nesting of arrays and objects
MAX_VALUES = 4000  # values in the schema, without keys
MAX_PROPERTIES = 500  # properties or property patterns of one object
MAX_COUNT = 10_000  # minLength, maxLength, minItems, maxItems, minProperties, maxProperties
MAX_NUMBER = 2**53  # absolute value; larger integers are not exact as floats
MIN_FRACTION = 1e-9  # smallest nonzero absolute value
MAX_MULTIPLE = 1000  # multipleOf
# Other decimal fractions are not exact as floats: validators would reject 0.07 as a multiple of 0.01.
FRACTIONS = 1024  # multiples of 1/1024 are exact
MAX_STRING = 2000  # characters of a constant or property name
DRAFTS = DRAFT_04 | frozenset(
    f"http{s}://json-schema.org/{draft}{end}"
    for s in ("", "s")
    for draft in ("draft-06/schema", "draft-07/schema", "draft/2019-09/schema", "draft/2020-12/schema")
    for end in ("", "#")
)
UNSUPPORTED = frozenset("id $id $anchor $dynamicRef $dynamicAnchor $recursiveRef $recursiveAnchor x-guidance".split())
SIMILAR = 0.85  # of difflib: 'requried' resembles 'required', 'units' does not resemble 'items'
TYPES = frozenset("null boolean integer number string array object".split())


@dataclass(frozen=True)
class CheckedSchema:
    """A schema for llguidance: no annotations, translated patterns, integral floats as integers.

    Attributes:
        grammar: What llguidance enforces.
        validator: Checks what it does not enforce; None if it enforces all.
        notes: Messages for the user about keywords that may be misspelled.
    """

    grammar: Schema | bool
    validator: SchemaValidator | None
    notes: tuple[str, ...] = ()


def check_schema(schema: Mapping[str, object] | bool | str) -> CheckedSchema:
    """Convert a schema, or its JSON text, for llguidance.

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
    schemas = dict(subschemas(checked, "#"))
    for member in schemas.values():
        if isinstance(member, dict) and not member.keys().isdisjoint(("unevaluatedProperties", "unevaluatedItems")):
            close_unevaluated(member, schemas)
    check_refs(checked)
    given = cast("Schema | bool", plain)
    exact = relax_unions(checked) and not _has_later_checks(given)
    return CheckedSchema(checked, None if exact else SchemaValidator(given), tuple(_misspelled(given)))


def _misspelled(schema: Schema | bool) -> Iterator[str]:
    """Yield a note for each unknown keyword that resembles a known one. Clients write ``min_items``, and mean it so."""
    for at, member in subschemas(schema, "#"):
        for key in member if isinstance(member, dict) else ():
            if key not in _KEYWORDS and (similar := difflib.get_close_matches(key, _KEYWORDS, 1, SIMILAR)):
                yield f"the schema's unknown keyword '{key}' at {at} is ignored: is it '{similar[0]}'?"


def _has_later_checks(schema: Schema | bool) -> bool:
    """Return whether a valid schema has a keyword that the grammar may not enforce."""
    for at, member in subschemas(schema, "#"):
        keywords = modernize(member, at) if isinstance(member, dict) else {}
        fewest = cast("float", keywords.get("minProperties", 0))
        if (
            keywords.keys() & CHECKED
            or keywords.get("format") == "regex"
            or fewest > 1
            or ("pattern" in keywords and translate_pattern(str(keywords["pattern"]), at).forbidden)
        ):
            return True
    return False


def plain_schema(schema: Mapping[str, object] | bool | str) -> object:
    """Return a copy made of plain JSON types. Raises OptionError beyond a limit, or if it is not JSON."""
    try:
        value = schema
        if isinstance(schema, str):
            if len(schema) > MAX_BYTES:
                raise OptionError(f"the schema is larger than {MAX_BYTES} bytes")
            value = json.loads(without_byte_order_mark(schema), object_pairs_hook=unique_names)
        _check_extent(value, itertools.count())
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, default=dict)
        if len(text.encode()) > MAX_BYTES:
            raise OptionError(f"the schema is larger than {MAX_BYTES} bytes")
        return json.loads(text)
    except DuplicateName as error:
        raise OptionError(f"the schema is not valid: {error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise OptionError("the schema is not JSON", error) from error


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
    given = modernize(schema, where)
    for key, value in given.items():
        if key in _KEYWORDS:
            checked[key] = _KEYWORDS[key](value, f"{where}/{key}")
        elif key in UNSUPPORTED:
            raise _unsupported(f"{where}/{key}")
    if isinstance(pattern := checked.get("pattern"), Pattern):
        checked["pattern"], *others = pattern.required
        if others:
            checked["allOf"] = [*cast("list[object]", checked.get("allOf", [])), *({"pattern": one} for one in others)]
    rewritten = rewrite(checked, given)
    if isinstance(rewritten, dict) and "patternProperties" in rewritten:
        fold_exhausted_patterns(rewritten, f"{where}/patternProperties")
    return rewritten


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
    checked: Schema = {}
    for name, member in _object(value, where).items():
        pattern = translate_pattern(name, where)
        if len(pattern.required) > 1 or pattern.forbidden:
            raise OptionError(f"the pattern at {where} has a look-ahead, which is not supported for names")
        checked[pattern.required[0]] = _schema(member, f"{where}/{escape_pointer(name)}")
    return checked


def _complement(value: object, where: str) -> object:
    """Return a schema of the values that do not match, or more; None if there is none."""
    if isinstance(value, bool) or value == {}:
        return value is False
    checked = _schema(value, where)
    given = modernize(cast("Schema", value), where)
    if given.keys() == {"not"}:
        return _schema(given["not"], f"{where}/not")
    if given.keys() == {"type"}:
        names = types_of(given, "")
        excluded = {*names, "integer"} if "number" in names else {*names} - {"integer"}
        return {"type": left} if (left := sorted(TYPES - excluded)) else False
    if given.keys() in ({"const"}, {"enum"}):
        return ExceptValues([given["const"]] if "const" in given else cast("list[object]", given["enum"]))
    if given.keys() == {"required"} and isinstance(checked, dict) and len(_list(checked["required"], where)) == 1:
        return {"type": "object", "properties": {str(_list(checked["required"], where)[0]): False}}
    return None


def _dependent_required(value: object, where: str) -> object:
    return {
        _string(name, where): [_string(other, where) for other in _list(others, where, may_be_empty=True)]
        for name, others in _object(value, where).items()
    }


def _types(value: object, where: str) -> object:
    if not {str(name) for name in (value if isinstance(value, list) else [value])} <= TYPES:
        raise OptionError(f"the schema has an unknown type at {where}")
    return value if isinstance(value, str) else _list(value, where)


def _format(value: object, where: str) -> object:
    if not isinstance(value, str):
        raise _unsupported(where)
    return value


def _flag(value: object, where: str) -> object:
    if not isinstance(value, bool):
        raise OptionError(f"the schema needs true or false at {where}")
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


def _multiple(value: object, where: str) -> int | float:
    if isinstance(value, float) and (value * FRACTIONS).is_integer():
        return _number(1 / FRACTIONS, MAX_MULTIPLE, value, where)
    return _number(1, MAX_MULTIPLE, value, where, whole=True)


def _bound(value: object, where: str, *, upper: bool) -> int | float:
    """Check a bound. One that allows more than exact integers, such as that of uint64, is narrowed."""
    if isinstance(value, int | float) and not isinstance(value, bool) and (value > 0) == upper:
        value = min(value, MAX_NUMBER) if upper else max(value, -MAX_NUMBER)
    return _number(-MAX_NUMBER, MAX_NUMBER, value, where)


_count = partial(_number, 0, MAX_COUNT, whole=True)

_KEYWORDS: Mapping[str, Callable[[object, str], object]] = {
    **dict.fromkeys(ONE_SCHEMA, _schema),
    **dict.fromkeys(SCHEMA_LISTS, _schemas),
    **dict.fromkeys(NAMED_SCHEMAS, _properties),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _count),
    **dict.fromkeys(("minContains", "maxContains"), _count),
    **dict.fromkeys(("minimum", "exclusiveMinimum"), partial(_bound, upper=False)),
    **dict.fromkeys(("maximum", "exclusiveMaximum"), partial(_bound, upper=True)),
    "multipleOf": _multiple,
    "patternProperties": _pattern_properties,
    "not": _complement,
    "dependentRequired": _dependent_required,
    "uniqueItems": _flag,
    "const": _constant,
    "enum": lambda value, where: _constant(_list(value, where), where),
    "type": _types,
    "required": lambda value, where: [_string(name, where) for name in _list(value, where, may_be_empty=True)],
    "pattern": lambda value, where: translate_pattern(_string(value, where), where),
    "format": _format,
    "$ref": _string,
}
