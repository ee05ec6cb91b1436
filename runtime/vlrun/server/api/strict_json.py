"""A request's bytes as JSON without ambiguity: one reading of every field, finite numbers, strings that are text.

Beyond the standard library's parser it refuses deep nesting, duplicate keys, numbers that are not finite or very long,
NUL and lone surrogates.
"""

from __future__ import annotations

import json
import math
import re

from vlrun.server.api_errors import ApiError, bad_request
from vlrun.server.limits import ServerLimits
from vlrun.storage.text_files import without_byte_order_mark

EXACT = 2**53
"""Up to here every whole number is a float of its own."""
MAX_VALUES = 100_000
"""Values of a request, keys included. An empty list takes 3 bytes of a body and 64 of memory."""
MAX_NUMBER = 64
"""Characters of a number. Python's time for an integer grows with the square of its digits."""

_BRACKET = re.compile(r"[\[\]{}]")
_INVALID = re.compile("[\0\ud800-\udfff]")  # the parser has joined complete surrogate pairs


def parse(body: bytes, limits: ServerLimits) -> object:
    """Parse a body in UTF-8; a byte order mark is ignored (RFC 8259, 8.1). Raises ApiError 400, ``invalid_json``."""
    if not body.strip():
        raise _error("the request has no body: it must be JSON")
    try:
        text = without_byte_order_mark(body).decode()
    except UnicodeDecodeError:
        raise _error("the request's body is not UTF-8") from None
    _check_shape(text, limits)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_constant
        )
    except ValueError:
        raise _error("the request's body is not JSON") from None
    if "\\" in text:  # a raw NUL is no JSON and a raw surrogate no UTF-8, so only an escape makes one
        _check_strings(value)
    return value


def _error(message: str) -> ApiError:
    return bad_request(message, code="invalid_json")


def _check_shape(text: str, limits: ServerLimits) -> None:
    """Bound the nesting and the number of values before a parser makes objects of them. If the text is no JSON, the
    count is right up to the first error, where a parser stops as well.
    """
    # Without escaped quotes, each quote begins or ends a string. An image's string has megabytes, and a text may be all
    # escapes, so nothing here loops over characters or escapes in Python.
    if "\\" in text:
        text = text.replace("\\\\", "").replace('\\"', "")
    outside = "".join(text.split('"', 2 * MAX_VALUES + 1)[::2])
    if max(sum(map(outside.count, signs)) for signs in (",:[{", "]}")) > MAX_VALUES:
        raise _error(f"the request's JSON has more than {MAX_VALUES:,} values")
    depth = 0
    for bracket in _BRACKET.findall(outside):
        depth += 1 if bracket in "[{" else -1
        if depth > limits.json_depth:
            raise _error(f"the request's JSON is nested deeper than {limits.json_depth} levels")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _error("the request's JSON has a duplicate key")
    return found


def _integer(digits: str) -> int:
    if len(digits) > MAX_NUMBER:
        raise _error(f"the request's JSON has a number of more than {MAX_NUMBER} characters")
    return int(digits)


def _real(digits: str) -> float:
    if len(digits) > MAX_NUMBER:
        raise _error(f"the request's JSON has a number of more than {MAX_NUMBER} characters")
    number = float(digits)
    if not math.isfinite(number):
        raise _error("the request's JSON has a number beyond the range of a float")
    return int(number) if number.is_integer() and abs(number) < EXACT else number  # 8.0 is a whole number in JSON


def _constant(name: str) -> object:
    raise _error(f"the request's JSON has {name}, which is not a JSON number")


def _check_strings(value: object) -> None:
    pending = [value]
    while pending:
        match pending.pop():
            case str(text) if _INVALID.search(text):
                raise _error("the request's JSON has a NUL character or a lone surrogate in a string")
            case list(items):
                pending.extend(items)
            case dict(fields):
                pending.extend(fields)
                pending.extend(fields.values())
