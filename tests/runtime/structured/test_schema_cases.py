"""Schemas from real use: each is honoured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.published import CASES as SHARED_CASES
from tests.published import needs_published
from tests.runtime.structured.random_answers import TOKENIZER, random_answers
from vlrun.errors import OptionError
from vlrun.structured.grammar import Grammar, compile_schema

jsonschema = pytest.importorskip("jsonschema")

CASES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "schema_cases.json").read_text(encoding="utf-8")
)
IN_2020_12: dict[str, dict[str, Any]] = {
    "draft04_exclusive": {"properties": {"n": {"type": "integer", "exclusiveMinimum": 0}}},
    "nullable_openapi": {"properties": {"a": {"type": ["string", "null"]}}},
}
"""What a validator of draft 2020-12 does not know."""


def accepts(compiled: Grammar, text: str) -> bool:
    constraint = compiled.constraint()
    try:
        for token in TOKENIZER.load().tokenize_bytes(text.encode()):
            constraint.accept(token)
    except OptionError:
        return False
    return constraint.complete and not compiled.checks.violation(text)


def check_answers(compiled: Grammar, schema: object, count: int) -> None:
    """Check random answers that pass the checks of complete answers; a quarter of them at least must."""
    texts = random_answers(compiled, np.random.default_rng(2), count)
    valid = [text for text in texts if not compiled.checks.violation(text)]
    assert len(valid) >= count / 4
    for text in valid:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))


@pytest.mark.parametrize("name", CASES)
def test_cases_are_honoured(name: str) -> None:
    schema = CASES[name]["schema"]
    in_2020_12 = schema if name not in IN_2020_12 else {**schema, **IN_2020_12[name]}
    check_answers(compile_schema(schema, TOKENIZER), in_2020_12, 6)


@needs_published
def test_the_published_cases_are_those_here() -> None:
    published = {path.stem: json.loads(path.read_text("utf-8")) for path in (SHARED_CASES / "schemas").glob("*.json")}
    assert {name: case["schema"] for name, case in CASES.items()} == {
        name: case["schema"] for name, case in published.items()
    }


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("set_of_strings", '{"tags": ["a", "b"]}', True),
        ("set_of_strings", '{"tags": ["a", "a"]}', False),
        ("pydantic_decimal", '{"total": "-12.50"}', True),
        ("pydantic_decimal", '{"total": "-"}', False),
        ("pydantic_decimal", '{"total": "x"}', False),
        ("pydantic_decimal", '{"total": 0.5}', True),
    ],
)
def test_answers_are_checked_when_they_are_complete(name: str, text: str, valid: bool) -> None:
    assert accepts(compile_schema(CASES[name]["schema"], TOKENIZER), text) is valid


@pytest.mark.parametrize("count", [2, 4])
def test_sets_of_few_constants_are_enforced_while_generating(count: int) -> None:
    """A small model repeated a constant, and the answer was refused only when it was complete."""
    items = {"type": "string", "enum": list("abcdefgh"[:count])}
    compiled = compile_schema({"type": ["array", "null"], "items": items, "uniqueItems": True}, TOKENIZER)
    texts = random_answers(compiled, np.random.default_rng(5), 10)
    assert not [text for text in texts if compiled.checks.violation(text)]
    assert accepts(compiled, json.dumps(items["enum"][::-1]))
    assert accepts(compiled, "[]")
    assert accepts(compiled, "null")


def test_nullable_means_the_type_or_null() -> None:
    compiled = compile_schema(CASES["nullable_openapi"]["schema"], TOKENIZER)
    assert accepts(compiled, '{"a": null}')
    assert accepts(compiled, '{"a": "x"}')
    assert not accepts(compiled, '{"a": 1}')
    for unclear in ({"nullable": True}, {"type": "string", "enum": ["a"], "nullable": True}):
        with pytest.raises(OptionError, match="beside #/nullable"):
            compile_schema(unclear, TOKENIZER)


def test_exclusive_bounds_of_draft_04() -> None:
    compiled = compile_schema(
        {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "maximum": 9, "exclusiveMaximum": False}, TOKENIZER
    )
    assert [accepts(compiled, text) for text in ("0", "1", "9", "10")] == [False, True, True, False]
    with pytest.raises(OptionError, match=r"'http://json-schema\.org/draft-03/schema#' is none of draft-04"):
        compile_schema({"$schema": "http://json-schema.org/draft-03/schema#"}, TOKENIZER)


def tagged(tag: object, **more: object) -> dict[str, Any]:
    return {"type": "object", "properties": {"kind": tag, **more}, "required": ["kind"], "additionalProperties": False}


CAT, DOG = tagged({"const": "cat"}), tagged({"enum": ["dog", "puppy"]}, pups={"$ref": "#/$defs/Pack"})
UNIONS: list[tuple[list[object], bool]] = [
    ([{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}], True),
    ([{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}, {"type": "null"}, {"type": "integer"}], True),
    ([{"$ref": "#/$defs/Alias"}, {"$ref": "#/$defs/Dog"}], True),
    ([{"$ref": "#/$defs/Cat"}, tagged({"type": "string"})], False),
    ([{"properties": {"kind": {"const": tag}}, "required": ["kind"]} for tag in ("cat", "dog")], False),
]


@pytest.mark.parametrize(("members", "disjoint"), UNIONS, ids=range(len(UNIONS)))
def test_one_of_is_honoured_if_no_value_matches_two_members(members: list[object], disjoint: bool) -> None:
    schema = {
        "oneOf": members,
        "$defs": {
            "Cat": CAT,
            "Dog": DOG,
            "Alias": {"$ref": "#/$defs/Cat"},
            "Pack": {"type": "array", "items": {"oneOf": [{"$ref": "#/$defs/Dog"}, {"type": "null"}]}, "maxItems": 2},
        },
    }
    compiled = compile_schema(schema, TOKENIZER)
    assert (compiled.checks.schema is None) == disjoint
    check_answers(compiled, schema, 8)
    if disjoint:
        assert accepts(compiled, '{"kind": "puppy"}')
        assert accepts(compiled, '{"kind": "cat"}')


def test_a_value_that_matches_two_members_is_a_violation() -> None:
    defs = {"Cat": CAT, "Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}, {"type": "integer"}]}}
    schema = {"oneOf": [{"$ref": "#/$defs/Cat"}, CAT, {"$ref": "#/$defs/Loop"}], "$defs": defs}
    compiled = compile_schema(schema, TOKENIZER)
    assert compiled.checks.violation('{"kind": "cat"}') == "the answer violates the schema at #/oneOf"
    assert accepts(compiled, "3")


NUMBER = {"type": "integer"}
PATTERNS: list[dict[str, Any]] = [
    {"properties": {"score": NUMBER}, "patternProperties": {"^score$": NUMBER}},
    {"properties": {"score": NUMBER}, "patternProperties": {"^score$": {"minimum": 5}}, "required": ["score"]},
    {"properties": {"a": NUMBER, "b": NUMBER}, "patternProperties": {"^[ab]$": {"maximum": 3}}, "required": ["a"]},
    {"properties": {"abc": NUMBER, "abd": NUMBER}, "patternProperties": {"^(abc|abd)$": NUMBER}},
    {"properties": {"abc": NUMBER, "abd": NUMBER}, "patternProperties": {"^(abc|abd|x)$": NUMBER}},
    {"properties": {"a": NUMBER}, "patternProperties": {"^a$": NUMBER, "^b$": NUMBER}, "required": ["a", "b"]},
    {"properties": {"a/b": NUMBER}, "patternProperties": {"^a/b$": NUMBER}, "required": ["a/b"]},
    {"properties": {"$": NUMBER}, "patternProperties": {"^\\$$": NUMBER}, "required": ["$"]},
    {"properties": {"s": NUMBER}, "patternProperties": {"^s": NUMBER}},
    {"patternProperties": {"^[ab]$": NUMBER}, "required": ["a", "b"]},
    {"properties": {"<b>": NUMBER}, "patternProperties": {"^<[a-z]>$": NUMBER}},
    {"properties": {"a": NUMBER}, "patternProperties": {"^a$": {"type": "string"}}, "additionalProperties": NUMBER},
]


@pytest.mark.parametrize("members", PATTERNS, ids=range(len(PATTERNS)))
def test_property_patterns_never_fail_in_the_middle(members: dict[str, Any]) -> None:
    """Guards against "NoExtensionBias": a comma was written, but no name was left for a further property."""
    schema = {"type": "object", "additionalProperties": False, **members}
    compiled = compile_schema(schema, TOKENIZER)
    validator = jsonschema.Draft202012Validator(schema)
    texts = random_answers(compiled, np.random.default_rng(6), 25)
    assert len(texts) > 20
    for text in texts:
        validator.validate(json.loads(text))


CONTROL = ["<|im_end|>", "a<|endoftext|>", "<tool_call>", "</think>b", "<|image_pad|><|im_start|>"]


@pytest.mark.parametrize("name", CONTROL)
def test_letters_of_control_tokens_are_text(name: str) -> None:
    """Guards against answers that died because llguidance forced the control token itself."""
    schemas: list[dict[str, Any]] = [
        {"enum": [name]},
        {"const": {name: [name]}},
        {"type": "object", "properties": {name: {"const": 1}}, "required": [name], "additionalProperties": False},
        {"type": "array", "items": {"pattern": f"^{jsonschema_escape(name)}$", "type": "string"}, "minItems": 1},
    ]
    for schema in schemas:
        compiled = compile_schema(schema, TOKENIZER)
        control = set(TOKENIZER.control.values()) - set(TOKENIZER.eos)
        for text in random_answers(compiled, np.random.default_rng(1), 2):
            jsonschema.Draft202012Validator(schema).validate(json.loads(text))
        constraint = compiled.constraint()
        assert not set(constraint.forced()) & control


def jsonschema_escape(name: str) -> str:
    return "".join(f"\\{letter}" if letter in "<>|/" else letter for letter in name)


def test_control_tokens_in_the_vocabulary_itself_are_not_text() -> None:
    """Some tokenizers list their control tokens also in the vocabulary of the BPE model."""
    from tokenizers import Tokenizer

    from vlrun.embedded import FOLDER
    from vlrun.structured.grammar import GrammarTokenizer

    file = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    file["model"]["vocab"] |= {token["content"]: token["id"] for token in file["added_tokens"]}
    tokenizer = GrammarTokenizer(Tokenizer.from_str(json.dumps(file)), (1006, 1004), 1024)
    constraint = compile_schema({"enum": ["<|im_end|>"]}, tokenizer).constraint()
    scores = np.zeros(1024, np.float32)
    for letter in '"<|im_end|>"':
        constraint.mask(scores := np.zeros(1024, np.float32))
        assert not np.isfinite(scores[list(tokenizer.control.values())]).any()
        constraint.accept(tokenizer.load().tokenize_str(letter)[0])
    assert constraint.complete
