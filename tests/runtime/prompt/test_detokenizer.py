"""Incremental decoding: whole characters, and stop strings across pieces."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from vlrun.embedded import FOLDER
from vlrun.prompt.detokenizer import Detokenizer, StopStrings
from vlrun.prompt.tokenizer import parse_tokenizer

TINY = parse_tokenizer((FOLDER / "tokenizer.json").read_bytes(), "tokenizer.json")


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40), cut=st.integers(0, 3))
def test_streaming_never_splits_a_character(text: str, cut: int) -> None:
    """Also when the answer ends inside a multi-byte character."""
    ids = TINY.encode(text, add_special_tokens=False).ids
    ids = ids[: len(ids) - cut]
    detokenizer = Detokenizer(TINY)
    pieces = [*(detokenizer.push(token) for token in ids), detokenizer.flush()]
    if "\ufffd" not in text:
        assert all("\ufffd" not in piece for piece in pieces)
    assert "".join(pieces) == TINY.decode(ids).rstrip("\ufffd")


@given(
    text=st.text("abc", max_size=30),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    seed=st.integers(0, 99),
)
def test_stop_strings_are_found_across_pieces(text: str, stops: list[str], seed: int) -> None:
    """The output is the text before the first stop string, however the text is split."""
    chance = random.Random(seed)
    matcher, out, rest = StopStrings(stops), "", text
    while rest and not matcher.found:
        size = chance.randint(1, 4)
        out += matcher.push(rest[:size])
        rest = rest[size:]
    out += matcher.flush()
    found = [stop for stop in stops if stop in text]
    if not found:
        assert out == text
        assert not matcher.found
    else:
        assert matcher.found in found
        assert not any(stop in out for stop in stops)
        assert text.startswith(out)
