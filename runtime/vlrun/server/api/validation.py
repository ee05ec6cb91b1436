"""JSON values as request types, with OpenAI-style errors: our own words, and the path of the field in question.

msgspec decides what is valid. Its message holds the path and what was expected there, and is translated here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TypeVar

import msgspec
from msgspec import inspect

from vlrun.server.api.schemas import RequestStruct
from vlrun.server.api_errors import ApiError, bad_request

T = TypeVar("T")

MAX_QUOTED = 64
"""Characters of a request that an error message may repeat."""
JSON_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
NAME_RULE = "1 to 64 of the characters a-z, A-Z, 0-9, _ and -"  # of FUNCTION_NAME, the only pattern
LENGTH_UNITS = {"str": "characters", "array": "elements", "object": "keys"}
BOUNDS = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}

_LOCATION = re.compile(r"(`key` in )?`\$([\w.\[\]]*)`")
_STEP = re.compile(r"\.?(\w+)|\[(\d+)\]")
_WRONG_TYPE = re.compile(r"Expected `(.*?)`, got `(.*)`")
_WRONG_LENGTH = re.compile(r"Expected `(\w+)` of length (<=|>=) (\d+)")
_OUT_OF_BOUNDS = re.compile(r"Expected `(?:int|float)` (<=|>=|<|>) ([-\d.e+]+)")
_NAMED_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)


def convert(value: object, kind: type[T]) -> T:
    """Convert parsed JSON to a request type; ignored fields are left out. Raises ApiError (400)."""
    value = without_ignored(value, kind)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise explain(str(error), value, kind) from None


def without_ignored(value: object, kind: type) -> object:
    """Leave out the ignored fields of all objects of a request. Raises ApiError (400) for those refused by name."""
    return _without_ignored(value, tuple(_members(_type_info(kind))), "")


def _without_ignored(value: object, kinds: Sequence[inspect.Type], path: str) -> object:
    if isinstance(value, list):
        lists = [kind for kind in kinds if isinstance(kind, inspect.ListType)]
        items = [member for one in lists for member in _members(one.item_type)]
        return [_without_ignored(item, items, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, dict) or (struct := _matching(value, kinds)) is None:
        return value
    unused, known = struct.unused, _fields(struct)
    kept: dict[str, object] = {}
    for name, member in value.items():
        place = f"{path}.{name}" if path else name
        if name in known:
            kept[name] = _without_ignored(member, known[name], place)
        elif not unused.ignores(name, member):
            if unused.refuses(name):
                raise not_supported(place)
            kept[name] = member
    return kept


def _matching(value: Mapping[str, object], kinds: Sequence[inspect.Type]) -> type[RequestStruct] | None:
    """The type of an object among those that may be here."""
    for kind in kinds:
        if not isinstance(kind, inspect.StructType) or not issubclass(kind.cls, RequestStruct):
            continue
        if not kind.tag_field or value.get(kind.tag_field) == kind.tag:
            return kind.cls
    return None


def places_of_structs(kind: type[RequestStruct]) -> dict[type[RequestStruct], list[str]]:
    """The types of all objects of a request, each with its places; the request itself is at ""."""
    places: dict[type[RequestStruct], list[str]] = {}
    pending = [(kind, "")]
    for struct, place in pending:
        if place in places.setdefault(struct, []):
            continue
        places[struct].append(place)
        for name, members in _fields(struct).items():
            pending += _structs_in(members, f"{place}.{name}" if place else name)
    return places


def _structs_in(kinds: Sequence[inspect.Type], place: str) -> Iterator[tuple[type[RequestStruct], str]]:
    for kind in kinds:
        if isinstance(kind, inspect.StructType) and issubclass(kind.cls, RequestStruct):
            yield kind.cls, place
        elif isinstance(kind, inspect.ListType):
            yield from _structs_in(tuple(_members(kind.item_type)), f"{place}[]")


@cache
def _fields(struct: type[RequestStruct]) -> Mapping[str, Sequence[inspect.Type]]:
    """The types of a struct's fields, by their names in JSON; the tag has none."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    fields = {field.encode_name: tuple(_members(field.type)) for field in info.fields}
    return {**fields, info.tag_field: ()} if info.tag_field else fields


def quoted(text: str) -> str:
    """Untrusted text in double quotes, cut and escaped."""
    return json.dumps(text[:MAX_QUOTED]) + ("..." if len(text) > MAX_QUOTED else "")


def not_supported(path: str) -> ApiError:
    """The error for a field that OpenAI or vLLM know and this service does not support."""
    return bad_request(f"{path} is not supported by this service", path, "unsupported_parameter")


def explain(message: str, value: object, kind: type) -> ApiError:
    """Translate the message of a msgspec.ValidationError about ``value``, which should be a ``kind``."""
    reason, _, place = message.rpartition(" - at ")
    location = _LOCATION.fullmatch(place)
    reason, path = (reason, location[2].removeprefix(".").replace("[...]", "")) if location else (message, "")
    if match := _NAMED_FIELD.fullmatch(reason):
        return _named_field(match[1], match[2], path)
    subject = path or "the request"
    if location and location[1]:
        return bad_request(f"{subject} has a key that is too long", path or None)
    if match := _WRONG_TYPE.fullmatch(reason):
        if match[1] == "null":
            return not_supported(path)
        wanted = " or ".join(JSON_TYPES.get(name, name) for name in match[1].split(" | ") if name != "null")
        given = JSON_TYPES.get(match[2], match[2])
        return bad_request(f"{subject} must be {wanted}, not {given}", path or None, "invalid_type")
    problem = _bound(reason)
    if problem is None:
        found, choices = _look_up(path, value, _type_info(kind))
        if found == "input_video":
            return bad_request(
                "a video must be a part of type video_url, in a chat completion", path, "unsupported_video"
            )
        allowed = "one of " * (len(choices) > 1) + ", ".join(choices)
        problem = f"must be {allowed}, not {quoted(str(found))}" if choices else "is not valid"
    return bad_request(f"{subject} {problem}", path or None)


def _named_field(problem: str, name: str, parent: str) -> ApiError:
    escaped = json.dumps(name[:MAX_QUOTED])[1:-1] + "..." * (len(name) > MAX_QUOTED)
    path = f"{parent}.{escaped}" if parent else escaped
    if problem.startswith("missing"):
        return bad_request(f"{path} is missing", path, "missing_required_parameter")
    return bad_request(f"{path} is unknown", path, "unknown_parameter")


def _bound(reason: str) -> str | None:
    """What is wrong with a value of the right type, unless it is no allowed word."""
    if match := _WRONG_LENGTH.fullmatch(reason):  # no minimum is above 1
        return "must not be empty" if match[2] == ">=" else f"may have at most {match[3]} {LENGTH_UNITS[match[1]]}"
    if match := _OUT_OF_BOUNDS.fullmatch(reason):
        return f"must be {BOUNDS[match[1]]} {match[2].removesuffix('.0')}"
    return f"must be {NAME_RULE}" if "matching regex" in reason else None


@cache
def _type_info(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _look_up(path: str, value: object, info: inspect.Type) -> tuple[object, list[str]]:
    """The value at ``path``, and the words that are allowed there."""
    kinds = list(_members(info))
    for name, index in _STEP.findall(path):
        structs = [kind for kind in kinds if isinstance(kind, inspect.StructType)]
        if index:
            value = value[int(index)] if isinstance(value, list) else None
            items = [kind.item_type for kind in kinds if isinstance(kind, inspect.ListType)]
            kinds = [member for item in items for member in _members(item)]
            continue
        tags = [str(struct.tag) for struct in structs if struct.tag_field == name]
        fields = value if isinstance(value, dict) else {}
        value = fields.get(name)
        if tags:
            return value, tags
        matching = [struct for struct in structs if struct.tag == fields.get(struct.tag_field)]
        kinds = [member for struct in matching for f in struct.fields if f.name == name for member in _members(f.type)]
    return value, [str(word) for kind in kinds if isinstance(kind, inspect.LiteralType) for word in kind.values]


def _members(info: inspect.Type) -> Iterator[inspect.Type]:
    """A type without annotations, or the members of a union."""
    if isinstance(info, inspect.Metadata):
        yield from _members(info.type)
    elif isinstance(info, inspect.UnionType):
        for member in info.types:
            yield from _members(member)
    else:
        yield info
