"""Objects whose names are not known before do not repeat a name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.runtime.structured.random_answers import TOKENIZER, VOCAB_SIZE, random_answers
from vlrun.structured.grammar import compile_schema
from vlrun.structured.json_style import unique_names
from vlrun.structured.unique_names import UniqueNames


def forbidden(text: str) -> set[str]:
    names = UniqueNames()
    for index in range(len(text)):
        names.feed(text[index : index + 1].encode())
    whole = UniqueNames()
    whole.feed(text.encode())
    assert set(names.forbidden()) == set(whole.forbidden())
    return {one.decode() for one in names.forbidden()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", set()),
        ('{"a": 1', set()),
        ('{"a": 1,', {' "a"'}),
        ('{"a": 1, ', {'"a"'}),
        ('{"ab": 1, "a": 2, "a', {'b"', '"'}),
        ('{"a": {"a": 1, "b": [{"c": 1}]}, "', {'a"'}),
        ('{"a": {"a": 1, "', {'a"'}),
        ('{"a": ["x", "', set()),
        ('[{"a": 1}, {"', set()),
        ('{"a\\\\": "}\\"", "', {'a\\\\"'}),
        ('{"é": 1, "', {'é"'}),
        ("}]}", set()),
    ],
)
def test_what_would_repeat_a_name_is_forbidden(text: str, expected: set[str]) -> None:
    assert forbidden(text) == expected


OPEN: list[dict[str, Any]] = [
    {"type": "object", "additionalProperties": {"enum": [0]}, "minProperties": 4, "maxProperties": 6},
    {"type": "object", "patternProperties": {"^[a-c]{1,9}$": {"enum": [0]}}, "additionalProperties": False}
    | {"minProperties": 5, "maxProperties": 6},
]


@pytest.mark.parametrize("schema", OPEN, ids=["any", "pattern"])
def test_answers_have_every_name_once(schema: dict[str, Any]) -> None:
    """Small models repeated a name until the answer was too long, and parsers keep only one of them."""
    texts = random_answers(compile_schema(schema, TOKENIZER), np.random.default_rng(3), 20)
    assert len(texts) == 20
    for text in texts:
        json.loads(text, object_pairs_hook=unique_names)


def test_an_answer_continues_where_only_a_repeated_name_is_left() -> None:
    """It is an invalid answer when it is complete, instead of one that cannot go on."""
    schema = {"patternProperties": {"^a$": {"enum": [0]}}, "minProperties": 2, "additionalProperties": False}
    constraint = compile_schema({"type": "object", **schema}, TOKENIZER).constraint()
    for token in TOKENIZER.load().tokenize_bytes(b'{"a": 0, "a'):
        constraint.accept(token)
    scores = np.zeros(VOCAB_SIZE, np.float32)
    constraint.mask(scores)
    assert np.isfinite(scores).any()
