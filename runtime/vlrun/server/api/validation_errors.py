"""What is wrong with a value that does not fit a type, in our own words: where, and what must stand there.

msgspec decides what fits; its words are for programmers, so the first fault is looked for again, along the same types.
Knows types and JSON; knows no endpoint.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import TypeAlias, cast

from msgspec import inspect

from vlrun.server.api.common_request import PATTERNS
from vlrun.server.api_errors import ApiError, bad_request

MAX_QUOTED = 64
"""Characters of a request that an error may repeat."""
VIDEO_PARTS = frozenset({"video_url", "video", "input_video"})

_Kind: TypeAlias = "tuple[type | UnionType, str]"
_OBJECT: _Kind = (dict, "an object")
_KINDS: dict[type[inspect.Type], _Kind] = {
    inspect.NoneType: (NoneType, "null"),
    inspect.BoolType: (bool, "true or false"),
    inspect.IntType: (int, "a whole number"),
    inspect.FloatType: (int | float, "a number"),
    inspect.StrType: (str, "a string"),
    inspect.LiteralType: (str, "a string"),
    inspect.ListType: (list, "an array"),
}
"""Python's type and the name of each type of JSON; the rest are objects."""
_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", list: "an array"}
_BOUNDS = {
    "ge": ("at least", operator.ge),
    "gt": ("above", operator.gt),
    "le": ("at most", operator.le),
    "lt": ("below", operator.lt),
}


def explain(value: object, kind: type) -> ApiError:
    """The first fault of ``value``, made of dict, list, str, int, float, bool and None, that does not fit ``kind``."""
    return _fault(value, _type_info(kind), "") or bad_request("the request does not fit what is described")


def quoted(text: str) -> str:
    """A stranger's text, cut and escaped, in double quotes."""
    return json.dumps(text[:MAX_QUOTED]) + ("..." if len(text) > MAX_QUOTED else "")


def bare(name: str) -> str:
    """A stranger's name of a field, cut and escaped."""
    return json.dumps(name[:MAX_QUOTED])[1:-1] + ("..." if len(name) > MAX_QUOTED else "")


@cache
def _type_info(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _fault(value: object, info: inspect.Type, path: str) -> ApiError | None:
    choices = list(_choices(info))
    fitting = [choice for choice in choices if _takes(choice, value)]
    if not fitting:
        return _wrong_kind(value, choices, path)
    structs = [choice for choice in fitting if isinstance(choice, inspect.StructType)]
    if len(structs) > 1:
        return _tagged(cast("dict[str, object]", value), structs, path)
    return _inside(value, fitting[0], path)


def _choices(info: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(info, inspect.Metadata):
        yield from _choices(info.type)
    elif isinstance(info, inspect.UnionType):
        for member in info.types:
            yield from _choices(member)
    else:
        yield info


def _takes(info: inspect.Type, value: object) -> bool:
    """Whether it is this kind of JSON."""
    if isinstance(info, inspect.AnyType):
        return True
    kinds, _ = _KINDS.get(type(info), _OBJECT)
    return isinstance(value, kinds) and (kinds is bool or not isinstance(value, bool))


def _name(info: inspect.Type) -> str:
    return _one_of(info.values) if isinstance(info, inspect.LiteralType) else _KINDS.get(type(info), _OBJECT)[1]


def _one_of(words: Sequence[object]) -> str:
    listed = ", ".join(str(word) for word in words)
    return listed if len(words) == 1 else f"one of {listed}"


def _wrong_kind(value: object, choices: Sequence[inspect.Type], path: str) -> ApiError:
    wanted = [_name(choice) for choice in choices if not isinstance(choice, inspect.NoneType)]
    if not wanted:
        return unsupported(path)
    given = "null" if value is None else _NAMES.get(type(value), "an object")
    either = " or ".join(dict.fromkeys(wanted))
    return bad_request(f"{_subject(path)} must be {either}, not {given}", path or None, "invalid_type")


def unsupported(path: str) -> ApiError:
    """For a field that OpenAI or vLLM know, and we do not support."""
    return bad_request(f"{path} is not supported by this service", path, "unsupported_parameter")


def _subject(path: str) -> str:
    return path or "the request"


def _tagged(value: dict[str, object], structs: Sequence[inspect.StructType], path: str) -> ApiError | None:
    """One of several kinds of objects, told apart by one of their fields."""
    field = structs[0].tag_field or ""
    place = _join(path, field)
    tag = value.get(field)
    if not isinstance(tag, str):
        return _missing(place) if field not in value else _not_a_string(tag, place)
    for struct in structs:
        if struct.tag == tag:
            return _struct(value, struct, path)
    if tag in VIDEO_PARTS:
        return bad_request("this version reads no video", place, "unsupported_video")
    return bad_request(f"{place} must be {_one_of([struct.tag for struct in structs])}, not {quoted(tag)}", place)


def _not_a_string(value: object, path: str) -> ApiError:
    return _wrong_kind(value, [inspect.StrType()], path)


def _missing(path: str) -> ApiError:
    return bad_request(f"{path} is missing", path, "missing_required_parameter")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _inside(value: object, info: inspect.Type, path: str) -> ApiError | None:
    """What is wrong with a value that is the right kind of JSON."""
    fault: ApiError | None = None
    match info:
        case inspect.StructType():
            fault = _struct(cast("dict[str, object]", value), info, path)
        case inspect.DictType():
            fault = _dict(cast("dict[str, object]", value), info, path)
        case inspect.ListType():
            fault = _list(cast("list[object]", value), info, path)
        case inspect.StrType():
            fault = _string(cast("str", value), info, path)
        case inspect.IntType() | inspect.FloatType():
            fault = _number(cast("float", value), info, path)
        case inspect.LiteralType() if value not in info.values:
            fault = bad_request(f"{path} must be {_one_of(info.values)}, not {quoted(str(value))}", path)
    return fault


def _struct(value: Mapping[str, object], info: inspect.StructType, path: str) -> ApiError | None:
    """Its fields first, in their order: where ``type`` is another, the rest is bound to be strange."""
    given = [field for field in info.fields if field.encode_name in value]
    faults = (_fault(value[field.encode_name], field.type, _join(path, field.encode_name)) for field in given)
    if fault := next(filter(None, faults), None):
        return fault
    known = {field.encode_name for field in info.fields} | {info.tag_field}
    for name in value:
        if name not in known:
            place = _join(path, bare(name))
            return bad_request(f"{place} is unknown", place, "unknown_parameter")
    missing = (field for field in info.fields if field.required and field.encode_name not in value)
    return next((_missing(_join(path, field.encode_name)) for field in missing), None)


def _dict(value: Mapping[str, object], info: inspect.DictType, path: str) -> ApiError | None:
    if fault := _length(len(value), info, path, "keys"):
        return fault
    for key, member in value.items():
        if _fault(key, info.key_type, path):
            return bad_request(f"{path} has a key that is too long", path)
        if fault := _fault(member, info.value_type, _join(path, bare(key))):
            return fault
    return None


def _list(value: Sequence[object], info: inspect.ListType, path: str) -> ApiError | None:
    if fault := _length(len(value), info, path, "elements"):
        return fault
    faults = (_fault(member, info.item_type, f"{path}[{index}]") for index, member in enumerate(value))
    return next(filter(None, faults), None)


def _string(value: str, info: inspect.StrType, path: str) -> ApiError | None:
    if fault := _length(len(value), info, path, "characters"):
        return fault
    if info.pattern is not None and not re.search(info.pattern, value):
        return bad_request(f"{path} must be {PATTERNS[info.pattern]}", path)
    return None


def _length(
    length: int, info: inspect.StrType | inspect.ListType | inspect.DictType, path: str, unit: str
) -> ApiError | None:
    least, most = info.min_length or 0, info.max_length
    if length < least:  # no type asks for more than one
        return bad_request(f"{path} must not be empty", path)
    if most is not None and length > most:
        return bad_request(f"{path} may have at most {most} {unit}", path)
    return None


def _number(value: float, info: inspect.IntType | inspect.FloatType, path: str) -> ApiError | None:
    bounds = {name: bound for name in _BOUNDS if (bound := getattr(info, name)) is not None}
    if all(_BOUNDS[name][1](value, bound) for name, bound in bounds.items()):  # NaN is within none
        return None
    if bounds.keys() == {"ge", "le"}:
        return bad_request(f"{path} must lie between {_plain(bounds['ge'])} and {_plain(bounds['le'])}", path)
    words = " and ".join(f"{_BOUNDS[name][0]} {_plain(bound)}" for name, bound in bounds.items())
    return bad_request(f"{path} must be {words}", path)


def _plain(bound: float) -> str:
    """Whole numbers without a fraction."""
    return str(int(bound)) if bound == int(bound) else str(bound)
