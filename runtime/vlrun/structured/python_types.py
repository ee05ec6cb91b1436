"""JSON schemas from Python types, and answers back into them: dataclasses, TypedDicts, a user's Pydantic models.

Knows Python's types, by msgspec; knows no grammar and no tokens, and never imports Pydantic: a model brings its own
schema. Objects made from a type have no other members than its fields; a field with a default may be left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import cast

import msgspec
from msgspec import inspect

from vlrun.errors import OptionError
from vlrun.structured.schema_check import MAX_NUMBER, plain_schema

_PLAIN = (inspect.IntType, inspect.FloatType, inspect.StrType, inspect.BoolType, inspect.NoneType)
_CHOICES = (inspect.LiteralType, inspect.EnumType)
_FIELDS = (inspect.DataclassType, inspect.TypedDictType, inspect.StructType)


def schema_of(source: object) -> Mapping[str, object] | bool:
    """The JSON schema that ``source`` is or means: a mapping, true or false, JSON text, or a type.

    Types: dataclass, TypedDict and msgspec Struct, Pydantic model, str, int, float, bool, None, list, tuple,
    dict[str, ...], Optional and other unions, Literal, Enum; ints and floats within 2^53. Raises OptionError for
    anything else.
    """
    if isinstance(source, str):
        source = plain_schema(source)
    if isinstance(source, bool | Mapping):
        return source
    if _is_pydantic(source):
        return _closed(_own_schema(source), bounded=False)
    try:
        _check_type(inspect.type_info(source))
        return _closed(msgspec.json.schema(source), bounded=True)
    except (TypeError, ValueError, NameError, RecursionError) as error:
        raise OptionError(f"no schema can be made from {_name(source)}: {str(error).splitlines()[0]}") from error


def value_of(text: str, source: object) -> object:
    """An answer as ``source`` describes it: an instance of the type, or plain JSON if the source is a schema.

    Raises OptionError if the text is no JSON, or does not fit the type: an answer cut short does neither.
    """
    try:
        if isinstance(source, str | bool | Mapping):
            return cast("object", json.loads(text))
        if _is_pydantic(source):
            return cast("object", source.model_validate_json(text))  # type: ignore[attr-defined]
        return cast("object", msgspec.json.decode(text, type=source))
    except (ValueError, TypeError, RecursionError) as error:  # both libraries' errors are ValueErrors
        raise OptionError(f"the answer does not fit {_name(source)}: {str(error).splitlines()[0]}") from error


def _is_pydantic(source: object) -> bool:
    return isinstance(source, type) and callable(getattr(source, "model_json_schema", None))


def _own_schema(source: object) -> object:
    try:
        return cast("object", source.model_json_schema())  # type: ignore[attr-defined]
    except Exception as error:  # a model is a program of somebody else's
        raise OptionError(f"no schema can be made from {_name(source)}: {error}") from error


def _name(source: object) -> str:
    if isinstance(source, str | bool | Mapping):
        return "the schema"
    return f"'{getattr(source, '__name__', str(source))}'"


def _check_type(root: inspect.Type) -> None:
    """Raises TypeError for a type whose schema says less than its values need, as those of dates and sets do."""
    waiting, seen = [root], set()
    while waiting:
        info = waiting.pop()
        cls = getattr(info, "cls", None)
        if cls is None or cls not in seen:
            seen.add(cls)
            waiting.extend(_inner(info))


def _inner(info: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(info, inspect.Metadata):
        yield info.type
    elif isinstance(info, _FIELDS):
        yield from (field.type for field in info.fields)
    elif isinstance(info, inspect.UnionType):
        yield from info.types
    elif isinstance(info, inspect.ListType | inspect.VarTupleType):
        yield info.item_type
    elif isinstance(info, inspect.TupleType):
        yield from info.item_types
    elif isinstance(info, inspect.DictType) and isinstance(info.key_type, inspect.StrType):
        yield info.value_type
    elif not isinstance(info, _PLAIN + _CHOICES):
        raise TypeError(f"{type(info).__name__.removesuffix('Type').lower()} is not supported")


def _closed(schema: object, bounded: bool) -> Mapping[str, object]:
    """The schema with no unnamed members, and ``bounded``: with numbers that msgspec can read."""
    closed = _closed_value(schema, bounded)
    return cast("Mapping[str, object]", closed)


def _closed_value(value: object, bounded: bool) -> object:
    if isinstance(value, list | tuple):
        return [_closed_value(member, bounded) for member in value]
    if not isinstance(value, dict):
        return value
    # The names in `properties` and `$defs` are the user's and no keywords; constants are no schemas.
    closed: dict[str, object] = {}
    for key, member in value.items():
        if key in ("properties", "$defs"):
            closed[key] = {name: _closed_value(inner, bounded) for name, inner in member.items()}
        else:
            closed[key] = member if key in ("enum", "const", "default", "examples") else _closed_value(member, bounded)
    if isinstance(closed.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    if bounded and closed.get("type") in ("integer", "number"):
        closed.setdefault("minimum", -MAX_NUMBER)
        closed.setdefault("maximum", MAX_NUMBER)
    return closed
