"""JSON schemas from Python types, and answers converted to them: dataclasses, TypedDicts, Pydantic models and others.

Objects have no other members than the type's fields; a field with a default may be absent. Pydantic is imported
only for its own models.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import msgspec
from msgspec import inspect

from vlrun.errors import InvalidAnswer, OptionError, SchemaViolation
from vlrun.structured.answer_checks import AnswerChecks
from vlrun.structured.json_style import unique_names
from vlrun.structured.schema_check import MAX_NUMBER, plain_schema
from vlrun.structured.schema_refs import Schema
from vlrun.types.answer import Answer, Chunk

_SCALARS = (inspect.IntType, inspect.FloatType, inspect.StrType, inspect.BoolType, inspect.NoneType)
_CHOICES = (inspect.LiteralType, inspect.EnumType)
_OBJECTS = (inspect.DataclassType, inspect.TypedDictType, inspect.StructType)


def schema_of(source: object) -> Mapping[str, object] | bool:
    """Return the JSON schema of a type, a mapping, a boolean or JSON text.

    Types are dataclass, TypedDict, msgspec Struct, Pydantic model, str, int, float, bool, None, list, tuple,
    dict[str, ...], Optional and other unions, Literal and Enum; int and float are limited to 2^53.

    Raises:
        OptionError: The source is anything else.
    """
    if isinstance(source, str):
        source = plain_schema(source)
    if isinstance(source, bool | Mapping):
        return source
    try:
        if _is_pydantic(source):
            return _closed(_pydantic_schema(source), bounded=False)
        _check_type(inspect.type_info(source))
        return _closed(msgspec.json.schema(source), bounded=True)
    except Exception as error:  # annotations and Pydantic models run the user's code
        raise OptionError(f"no schema can be made from {_name(source)}: {_first_line(error)}") from error


def last_chunks(last: Chunk, answer: Answer, source: object, checks: AnswerChecks) -> Iterator[Chunk]:
    """Yield the last chunk with the answer and its value, which it has none of without a ``source``.

    Raises:
        SchemaViolation: The text, which was yielded, violates the schema, or a call violates its tool's parameters.
        InvalidAnswer: The text cannot become a value; both errors have the answer.
    """
    calls = list(checks.call_violations(answer.tool_calls))
    violations = [message for may, message in calls if not may]
    if source is not None and (violation := checks.violation(answer.text)):
        violations.append(violation)
    if violations:
        yield last
        raise SchemaViolation(violations[0], answer)
    answer = replace(answer, notes=(*answer.notes, *dict.fromkeys(message for may, message in calls if may)))
    try:
        valued = answer if source is None else replace(answer, value=value_of(answer.text, source))
    except OptionError as error:
        yield last
        raise InvalidAnswer(error.message, answer) from error
    yield replace(last, answer=valued)


def value_of(text: str, source: object) -> object:
    """Convert an answer to the type ``source``, or to plain JSON if that is a schema.

    Raises:
        OptionError: The text is not JSON, an object in it has a name twice, or it does not fit the type: it is
            truncated, for example, or a validator refuses it.
    """
    try:
        plain = json.loads(text, object_pairs_hook=unique_names)
        if isinstance(source, str | bool | Mapping):
            return cast("object", plain)
        if _is_pydantic(source):
            return cast("object", source.model_validate_json(text))  # type: ignore[attr-defined]
        return cast("object", msgspec.json.decode(text, type=source))
    except Exception as error:  # types run the user's code
        raise OptionError(f"the answer does not fit {_name(source)}: {_first_line(error)}") from error


def _is_pydantic(source: object) -> bool:
    return isinstance(source, type) and callable(getattr(source, "model_json_schema", None))


def _pydantic_schema(source: Any) -> Mapping[str, object]:
    """Return a model's schema, in which a Decimal is a number: not every string is one."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not issubclass(source, pydantic.BaseModel):
        return cast("Mapping[str, object]", source.model_json_schema())
    generator = importlib.import_module("pydantic.json_schema").GenerateJsonSchema

    def decimal_schema(self: Any, schema: Any) -> Any:
        either = generator.decimal_schema(self, schema)
        return next((one for one in either.get("anyOf", ()) if one.get("type") == "number"), either)

    numbers = type("NumbersForDecimals", (generator,), {"decimal_schema": decimal_schema})
    return cast("Mapping[str, object]", source.model_json_schema(schema_generator=numbers))


def _name(source: object) -> str:
    return "the schema" if isinstance(source, str | bool | Mapping) else f"'{getattr(source, '__name__', source)}'"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_type(root: inspect.Type) -> None:
    """Raise TypeError for types with a schema that accepts more than the type, such as dates and sets."""
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
    elif isinstance(info, _OBJECTS):
        yield from (field.type for field in info.fields)
    elif isinstance(info, inspect.UnionType):
        yield from info.types
    elif isinstance(info, inspect.ListType | inspect.VarTupleType):
        yield info.item_type
    elif isinstance(info, inspect.TupleType):
        yield from info.item_types
    elif isinstance(info, inspect.DictType) and isinstance(info.key_type, inspect.StrType):
        yield info.value_type
    elif not isinstance(info, _SCALARS + _CHOICES):
        raise TypeError(f"{type(info).__name__.removesuffix('Type').lower()} is not supported")


def _closed(schema: Mapping[str, object], bounded: bool) -> Schema:
    """Forbid unnamed members and, if ``bounded``, numbers that msgspec cannot read."""
    closed: Schema = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):  # the user's names, not keywords
            closed[key] = {name: _closed_any(member, bounded) for name, member in cast("Schema", value).items()}
        else:  # constants are not schemas
            constant = key in ("enum", "const", "default", "examples")
            closed[key] = value if constant else _closed_any(value, bounded)
    if isinstance(closed.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    if bounded and closed.get("type") in ("integer", "number"):
        closed.setdefault("minimum", -MAX_NUMBER)
        closed.setdefault("maximum", MAX_NUMBER)
    return closed


def _closed_any(value: object, bounded: bool) -> object:
    if isinstance(value, list | tuple):
        return [_closed_any(member, bounded) for member in value]
    return _closed(value, bounded) if isinstance(value, dict) else value
