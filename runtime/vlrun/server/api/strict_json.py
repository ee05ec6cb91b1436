"""A request's bytes as JSON that holds no surprise: one reading of every field, finite numbers, text that can be text.

Knows JSON and its bounds; does not know what a request means. Beyond the standard library's parser it refuses deep
nesting, a field named twice, numbers that are not finite or very long, and strings that no tokenizer takes.
"""

from __future__ import annotations

import json
import math
import re

from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.limits import ServerLimits

EXACT = 2**53
"""Up to here every whole number is a float of its own."""
MAX_VALUES = 100_000
"""Of one request, names counted too. An empty list takes 3 bytes of a body and 64 of memory: the bytes are no bound."""

MAX_NUMBER = 64
"""Characters of a number. Python's time for an integer grows with the square of its digits."""

_BRACKET = re.compile(r"[\[\]{}]")
_SURROGATE = re.compile("[\ud800-\udfff]")  # the parser has joined whole pairs


def parse(body: bytes, limits: ServerLimits) -> object:
    """The value of a body in UTF-8. Raises ApiError 400, ``invalid_json``.

    A byte order mark is refused, as RFC 8259 (8.1) lets a parser do.
    """
    text = _decoded(body)
    _check_shape(text, limits)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_constant
        )
    except ValueError:
        raise _refused("the request's body is not JSON") from None
    if "\\" in text:  # a raw NUL is no JSON and a raw surrogate no UTF-8, so only an escape makes one
        _check_strings(value)
    return value


def _refused(message: str) -> ApiError:
    return bad_request(message, code="invalid_json")


def _decoded(body: bytes) -> str:
    if not body.strip():
        raise _refused("the request has no body: it must be JSON")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise _refused("the request's body is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise _refused("the request's body begins with a byte order mark: send UTF-8 without one")
    return text


def _check_shape(text: str, limits: ServerLimits) -> None:
    """Nesting and number of values, before a parser makes objects of them. Where the text is no JSON the count is right
    up to the first fault, which is as far as a parser gets.
    """
    # Once the escaped quotes are gone, each quote begins or ends a string. An image's string has megabytes, and a text
    # may be all escapes, so nothing here loops over characters or escapes in Python.
    if "\\" in text:
        text = text.replace("\\\\", "").replace('\\"', "")
    outside = "".join(text.split('"', 2 * MAX_VALUES + 1)[::2])
    if max(sum(map(outside.count, signs)) for signs in (",:[{", "]}")) > MAX_VALUES:
        raise _refused(f"the request's JSON has more than {MAX_VALUES:,} values")
    depth = 0
    for bracket in _BRACKET.findall(outside):
        depth += 1 if bracket in "[{" else -1
        if depth > limits.json_depth:
            raise _refused(f"the request's JSON is nested deeper than {limits.json_depth} levels")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _refused("the request's JSON names a field twice in one object")
    return found


def _integer(digits: str) -> int:
    return int(_short(digits))


def _real(digits: str) -> float:
    number = float(_short(digits))
    if not math.isfinite(number):
        raise _refused("the request's JSON has a number beyond the range of a float")
    return int(number) if number.is_integer() and abs(number) < EXACT else number  # 8.0 is a whole number in JSON


def _short(digits: str) -> str:
    if len(digits) > MAX_NUMBER:
        raise _refused(f"the request's JSON has a number of more than {MAX_NUMBER} characters")
    return digits


def _constant(name: str) -> object:
    raise _refused(f"the request's JSON has {name}, which is no number of JSON")


def _check_strings(value: object) -> None:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                _check_string(text)
            case list(items):
                waiting.extend(items)
            case dict(fields):
                waiting.extend(fields)
                waiting.extend(fields.values())


def _check_string(text: str) -> None:
    if "\0" in text:
        raise _refused("the request's JSON has a NUL character in a string")
    if not text.isascii() and _SURROGATE.search(text):
        raise _refused("the request's JSON has half of a surrogate pair in a string")
