"""Traced text behaves as ``str`` does, and knows where its characters come from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrun.prompt.traced_text import TEMPLATE, TracedText, joined, origins_of, traced

OPERATIONS: list[Callable[[str, str], object]] = [
    lambda a, b: a + b,
    lambda a, b: "x" + a,
    lambda a, b: a * 3,
    lambda a, b: a[1:],
    lambda a, b: a[::-1],
    lambda a, b: a[-1:],
    lambda a, b: list(a),
    lambda a, b: a.strip(),
    lambda a, b: a.strip(b),
    lambda a, b: a.lstrip("\n"),
    lambda a, b: a.rstrip(b or None),
    lambda a, b: a.split(),
    lambda a, b: a.split(None, 1),
    lambda a, b: a.split(b or "x"),
    lambda a, b: a.split(b or "x", 1),
    lambda a, b: a.rsplit(b or "x", 1),
    lambda a, b: a.rsplit(None, 1),
    lambda a, b: a.splitlines(),
    lambda a, b: a.splitlines(True),
    lambda a, b: a.partition(b or "x"),
    lambda a, b: a.rpartition(b or "x"),
    lambda a, b: a.removeprefix(b),
    lambda a, b: a.removesuffix(b),
    lambda a, b: a.replace(b, "<>"),
    lambda a, b: a.replace("a", b, 1),
    lambda a, b: a.replace("", b, 2),
    lambda a, b: a.join([b, "y", b]),
    lambda a, b: a.lower(),
    lambda a, b: a.upper(),
    lambda a, b: a.title(),
    lambda a, b: a.capitalize(),
    lambda a, b: b in a,
    lambda a, b: a == b,
    lambda a, b: {a: 1}.get(b),
    lambda a, b: a.startswith(b),
    lambda a, b: a.center(9),
    lambda a, b: f"{a}|{b}",
]
TEXT = st.text("ab \n\t<ß%\x85", max_size=8)


@given(TEXT, TEXT, st.sampled_from(OPERATIONS))
@settings(max_examples=500, deadline=None)
def test_operations_give_what_str_gives(one: str, other: str, operation: Callable[[str, str], object]) -> None:
    """Every character that an operation keeps has its own origin, checked by numbering the characters."""
    numbered = TracedText(one, np.arange(len(one), dtype=np.int32))
    expected = operation(one, other)
    result = operation(numbered, TracedText(other, TEMPLATE))
    assert result == expected
    for piece in result if isinstance(result, list | tuple) else [result]:
        if not isinstance(piece, str) or not isinstance(piece, TracedText):
            continue
        for character, origin in zip("".join(piece), origins_of(piece).tolist(), strict=True):
            assert origin < 0 or one[origin].casefold() == character.casefold() or len(one[origin].upper()) > 1


def test_formats_keep_the_origin_of_what_they_insert() -> None:
    literal, given_text = TracedText("<%s|%5.1f>", TEMPLATE), traced("%s")
    result = literal % (given_text, 1.5)
    assert result == "<%s|  1.5>"
    assert origins_of(result).tolist() == [-1, -2, -2, *[-1] * 7]
    assert not isinstance(TracedText("%5s", TEMPLATE) % given_text, TracedText)
    with pytest.raises(TypeError):
        TracedText("%d", TEMPLATE) % given_text
    named = TracedText("%(a)s!", TEMPLATE) % {"a": given_text}
    assert origins_of(named).tolist() == [-2, -2, -1]


def test_joined_plain_text_stays_plain() -> None:
    assert not isinstance(joined(["a", "b"]), TracedText)
    assert origins_of(joined(["a", TracedText("b", TEMPLATE)])).tolist() == [-2, -1]
