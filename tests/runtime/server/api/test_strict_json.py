"""Row 19 of the fault table: JSON that harms its parser, or parses but does harm later."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vlrun.server.api.strict_json import MAX_NUMBER, MAX_VALUES, parse
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import ServerLimits

LIMITS = ServerLimits(json_depth=8)


def refused(body: bytes | str) -> str:
    """The message of the error."""
    with pytest.raises(ApiError) as error:
        parse(body if isinstance(body, bytes) else body.encode(), LIMITS)
    assert (error.value.status, error.value.code, error.value.param) == (400, "invalid_json", None)
    assert error.value.__cause__ is None
    return error.value.message


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**62), 10**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(value=VALUES, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
@example(value={'"[{\\"': '\\\\"[[[[[[[[[[[[\\', "\\": ['"']}, ascii_only=True, indent=None)
@example(value="\U0001f600", ascii_only=True, indent=None)
def test_valid_json_is_parsed(value: Any, ascii_only: bool, indent: int | None) -> None:
    """Including quotes, brackets and escapes in strings, and surrogate pairs."""
    written = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert parse(written.encode(), ServerLimits()) == value


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from(list('[]{}",:\\u0d8e 1.-x\n\0\ud83d猫')), max_size=40) | st.binary(max_size=40))
def test_any_bytes_parse_as_in_the_library_or_are_refused(body: bytes | str) -> None:
    """Never a different value, and never another error than 400."""
    body = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    try:
        value = parse(body, LIMITS)
    except ApiError:
        refused(body)
    else:
        assert value == json.loads(body)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "no body"),
        (" \r\n\t", "no body"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "not JSON"),
        ("{'a': 1}", "not JSON"),
        ('{"a": 1,}', "not JSON"),
        ('{"a": 1} {}', "not JSON"),
        ('{"a": 1}\0', "not JSON"),
        ('"a\0b"', "not JSON"),
        ('"a\nb"', "not JSON"),
        ('"a', "not JSON"),
        ('"\\x41"', "not JSON"),
        ("[01]", "not JSON"),
        ("[１]", "not JSON"),
        ("[NaN]", "NaN, which is not a JSON number"),
        ("[Infinity]", "Infinity, which is not a JSON number"),
        ('{"a": [-Infinity]}', "-Infinity, which is not a JSON number"),
        ("[1e999]", "beyond the range"),
        ("[-1e309]", "beyond the range"),
        ('{"a": 1, "b": 2, "a": 1}', "duplicate key"),
        ('[{"x": {"a": 1, "\\u0061": 2}}]', "duplicate key"),
        ('"\\u0000"', "NUL"),
        ('{"a\\u0000": 1}', "NUL"),
        ('[[{"a": ["b\\u0000"]}]]', "NUL"),
        ('"\\ud800"', "surrogate"),
        ('"\\udc00\\ud800"', "surrogate"),
        ('{"\\uDFFF": 1}', "surrogate"),
        ('["\\ud83d\\u0041"]', "surrogate"),
    ],
)
def test_lenient_json_is_refused(body: bytes | str, expected: str) -> None:
    """Duplicate keys are ambiguous, NaN passes any comparison, NUL and lone surrogates break tokenizers."""
    assert expected in refused(body)


@pytest.mark.parametrize("number", ["9" * 65, "-" + "9" * 64, "0." + "0" * 63, "1e" + "0" * 63, "1" * 100_000])
def test_long_numbers_are_refused(number: str) -> None:
    """Python takes long to parse an integer of 100,000 digits, and raises its own message."""
    assert f"more than {MAX_NUMBER} characters" in refused(number)
    assert parse(b"9" * 64, LIMITS) == 10**64 - 1


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', '{"\\"":[', '["\\\\",'])
def test_depth_is_limited(opening: str) -> None:
    """100,000 brackets are refused at once, even on a small stack. The limit is exact and ignores strings."""
    closing = "".join({"[": "]", "{": "}"}.get(bracket, "") for bracket in reversed(opening))
    levels = LIMITS.json_depth // sum(map(opening.count, "[{"))
    assert parse(f"{opening * levels}1{closing * levels}".encode(), LIMITS)
    assert parse(f"{opening * levels}{json.dumps(opening * 100)}{closing * levels}".encode(), LIMITS)
    assert "deeper than 8 levels" in refused(f"{opening * levels}[]{closing * levels}")
    messages: list[str] = []
    thread = threading.Thread(target=lambda: messages.extend(map(refused, (opening * 100_000, opening * 10_000))))
    began = time.monotonic()
    size = threading.stack_size(256 * 1024)
    try:
        thread.start()
    finally:
        threading.stack_size(size)
    thread.join()
    assert time.monotonic() - began < 1
    assert len(messages) == 2


@pytest.mark.parametrize("many", ["[[],{}", '["",""', "[1,2", '{"a":1', '["\\"[,{"'])
def test_number_of_values_is_limited(many: str) -> None:
    """15 MB of empty lists would take half a gigabyte. The check comes before parsing and ignores strings."""
    piece = f",{many[1:]}"
    body = f"{many}{piece * MAX_VALUES}"  # never closed, which a parser would notice last
    assert f"more than {MAX_VALUES:,} values" in refused(body)
    assert parse(json.dumps([piece * MAX_VALUES]).encode(), LIMITS) == [piece * MAX_VALUES]
    assert parse(json.dumps([0] * (MAX_VALUES - 1)).encode(), LIMITS) == [0] * (MAX_VALUES - 1)


def test_a_large_image_is_parsed_quickly() -> None:
    """15 MB of base64 or of escapes take little longer than the library's parser alone, 12 to 40 ms; a Python loop over
    the characters would take seconds.
    """
    for content in ("QUJD" * 2**20 * 4, "\\n" + "QUJD" * 2**20 * 4, '\\"\\\\' * 2**20 * 4, "\\u732b" * 2**20 * 2):
        body = f'{{"messages": [{{"role": "user", "content": "{content}"}}]}}'.encode()
        began = time.process_time()
        parse(body, ServerLimits())
        assert time.process_time() - began < 0.5


@pytest.mark.parametrize("body", ["{}", "\ufeff{}", '\ufeff {"a": "\ufeff"}'])
def test_one_byte_order_mark_is_ignored(body: str) -> None:
    """Programs on Windows write it before the JSON of a request."""
    assert parse(body.encode(), LIMITS) == json.loads(body.removeprefix("\ufeff"))
    assert "not JSON" in refused(f"\ufeff\ufeff{body}")
