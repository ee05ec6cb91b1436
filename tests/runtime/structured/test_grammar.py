"""Answers under a schema are valid JSON, and hostile schemas are refused."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders

from tests.runtime.structured.cpu_time import cpu_seconds
from tests.runtime.structured.random_answers import (
    EOS,
    TEXT_TOKENIZER,
    TOKENIZER,
    VOCAB_SIZE,
    closing_tokens,
    random_answers,
)
from vlrun.embedded import FOLDER
from vlrun.errors import DamagedModel, OptionError
from vlrun.structured import grammar
from vlrun.structured.grammar import GrammarConstraint, GrammarTokenizer, compile_schema

jsonschema = pytest.importorskip("jsonschema")


def closed_object(**properties: object) -> dict[str, Any]:
    """Return the schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


WORD = {"type": "string", "minLength": 1, "maxLength": 20}
BOX = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 1000}, "minItems": 4, "maxItems": 4}
TREE = {"$ref": "#/$defs/node", "$defs": {"node": closed_object(name=WORD, children={"type": "array", "maxItems": 2})}}
TREE["$defs"]["node"]["properties"]["children"]["items"] = {"$ref": "#/$defs/node"}  # type: ignore[index]
REALISTIC: list[dict[str, Any]] = [
    closed_object(objects={"type": "array", "items": closed_object(label=WORD, bbox_2d=BOX), "maxItems": 5}),
    closed_object(brand=WORD, price={"type": "number", "minimum": 0, "maximum": 9999.99}, in_stock={"type": "boolean"}),
    closed_object(date={"type": "string", "format": "date"}, total={"type": ["number", "null"]}),
    closed_object(answer={"enum": ["yes", "no", "cannot tell"]}, reason={"type": "string", "maxLength": 80}),
    closed_object(plate={"type": "string", "pattern": "^[A-Z]{1,3}-[A-Z]{1,2} [0-9]{1,4}$"}),
    {"type": "array", "items": WORD, "minItems": 1, "maxItems": 6},
    {"type": "array", "prefixItems": [{"type": "integer"}, WORD], "items": False, "minItems": 2},
    {"type": "integer", "minimum": -5, "exclusiveMaximum": 300},
    {"type": "number", "exclusiveMinimum": 0.5, "maximum": 7.25},
    {"type": "integer", "multipleOf": 25, "minimum": 0, "maximum": 10000},
    {"enum": ["rot", "grün", 3, None, {"a": [1.5]}, "\u20ac \U0001f600"]},
    {"const": {"quote": 'say "hi"', "path": "C:\\a/b\n"}},
    {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3},
    {"type": "object", "patternProperties": {"^[a-z]{1,4}$": WORD}, "additionalProperties": False},
    {
        "anyOf": [
            closed_object(kind={"const": "circle"}, r={"type": "number"}),
            closed_object(kind={"const": "box"}, box=BOX),
        ]
    },
    {"oneOf": [closed_object(kind={"const": "a"}, x=WORD), closed_object(kind={"const": "b"}, y={"type": "integer"})]},
    {"allOf": [{"type": "object", "properties": {"a": WORD}, "required": ["a"]}, {"properties": {"b": BOX}}]},
    closed_object(mail={"type": "string", "format": "email"}, at={"type": "string", "format": "time"}),
    {"type": "string", "pattern": r"^\S+ \D\W[^\s\d]$", "maxLength": 12},
    TREE,
    {"type": "object", "properties": {"título": WORD, 'a "b"': {"type": "integer"}}, "required": ["título"]},
]


@pytest.mark.slow
@pytest.mark.parametrize("schema", REALISTIC, ids=range(len(REALISTIC)))
def test_random_answers_are_valid(schema: dict[str, Any]) -> None:
    """Whatever the logits, a complete answer parses and validates."""
    compiled = compile_schema(schema, TOKENIZER)
    validator = jsonschema.Draft202012Validator(schema)
    texts = random_answers(compiled, np.random.default_rng(3), 50)
    assert len(texts) == 50
    for text in texts:
        assert validator.is_valid(json.loads(text)), text


def follow(schema: object, text: str) -> GrammarConstraint:
    """Return the constraint after this text."""
    constraint = compile_schema(json.dumps(schema), TOKENIZER).constraint()
    for token in TOKENIZER.load().tokenize_bytes(text.encode()):
        constraint.accept(token)
    return constraint


def allowed(constraint: GrammarConstraint) -> set[int]:
    scores = np.zeros(VOCAB_SIZE, np.float32)
    constraint.mask(scores)
    return {int(token) for token in np.flatnonzero(scores == 0)}


def test_only_an_end_token_follows_a_complete_answer() -> None:
    constraint = follow(closed_object(a=WORD), '{"a": "x"')
    assert not constraint.complete
    assert not allowed(constraint) & set(EOS)
    constraint.accept(TOKENIZER.load().tokenize_str("}")[0])
    assert constraint.complete
    assert allowed(constraint) == set(EOS)
    assert constraint.forced() == []
    constraint.accept(EOS[1])
    assert constraint.complete
    assert allowed(constraint) == set(EOS)
    with pytest.raises(OptionError, match="may not follow"):
        constraint.accept(0)


def test_a_number_may_end_or_continue() -> None:
    """A number at the root is complete after each digit."""
    constraint = follow({"type": "integer"}, "12")
    assert constraint.complete
    assert set(EOS) < allowed(constraint)


def test_forced_tokens_are_allowed() -> None:
    """Guards prompt lookup: forced tokens must pass the constraint."""
    constraint = follow(closed_object(brand=WORD), "{")
    forced = constraint.forced()
    for token in forced:
        assert allowed(constraint) == {token} or token in allowed(constraint)
        constraint.accept(token)
    assert TOKENIZER.load().decode_str(forced).startswith('"brand"')


def test_strings_contain_no_control_tokens() -> None:
    constraint = follow({"type": "string"}, '"')
    assert not allowed(constraint) & set(TOKENIZER.control.values())
    with pytest.raises(OptionError, match="may not follow"):
        constraint.accept(min(TOKENIZER.control.values()))


def test_strings_contain_no_control_tokens_without_angle_brackets() -> None:
    """Llguidance takes such control tokens for text."""
    file = json.loads((FOLDER / "tokenizer.json").read_text("utf-8"))
    (think,) = (token for token in file["added_tokens"] if token["content"] == "<think>")
    think["content"] = "think of it"
    tokenizer = GrammarTokenizer(Tokenizer.from_str(json.dumps(file)), EOS, VOCAB_SIZE)
    constraint = compile_schema({"const": "think of it"}, tokenizer).constraint()
    quote = tokenizer.load().tokenize_str('"')[0]
    assert quote in allowed(constraint)
    assert think["id"] not in constraint.forced()
    constraint.accept(quote)
    assert think["id"] not in allowed(constraint)
    with pytest.raises(OptionError, match="may not follow"):
        constraint.accept(think["id"])
    for letter in 'think of it"':
        assert think["id"] not in constraint.forced()
        constraint.accept(tokenizer.load().tokenize_str(letter)[0])
    assert constraint.complete


def test_property_names_cannot_be_escaped() -> None:
    """Guards against hexadecimal escapes, with which llguidance lets a property evade its schema."""
    with pytest.raises(OptionError, match="may not follow"):
        follow({"type": "object", "properties": {"a": {"type": "integer"}}}, '{"\\u0061": "text"')


def test_answers_share_no_state() -> None:
    compiled = compile_schema(closed_object(a=WORD), TOKENIZER)
    first, second = compiled.constraint(), compiled.constraint()
    first.accept(TOKENIZER.load().tokenize_str("{")[0])
    assert allowed(first) != allowed(second)


def text_schema(**keywords: object) -> dict[str, object]:
    return {"type": "string", **keywords}


CYCLE: dict[str, object] = {"type": "array"}
CYCLE["items"] = CYCLE
SHARED: dict[str, object] = {"type": "integer"}
for _ in range(40):
    SHARED = {"anyOf": [SHARED, SHARED]}
CHAIN = {
    f"d{i}": {
        "$ref": f"#/$defs/d{i - 1}",
        "anyOf": [{"type": "object", "properties": {f"p{i}": {"const": j}}, "required": [f"p{i}"]} for j in range(3)],
    }
    for i in range(1, 12)
}
HOSTILE: dict[str, Any] = {
    "chain of intersections": {"$ref": "#/$defs/d11", "$defs": {"d0": {"type": "object"}} | CHAIN},
    "deep text": "[" * 60_000,
    "deep schema": '{"items":' * 500 + "true" + "}" * 500,
    "no JSON": "{",
    "a cycle": CYCLE,
    "shared": SHARED,
    "large": text_schema(const="x" * 10**6),
    "NaN": {"minimum": float("nan")},
    "infinite": '{"maximum": 1e999}',
    "digits": '{"const": ' + "9" * 5000 + "}",
    "surrogate": '{"const": "\\ud800"}',
    "surrogate key": {"properties": {"\udc00": True}},
    "duplicate key": '{"type": "string", "type": "integer"}',
    "key that is no string": {"properties": {1: True}},
    "bytes": {"const": b"x"},
    "false": False,
    "long": text_schema(minLength=10**9),
    "many items": {"type": "array", "minItems": 10**9},
    "product of repeats": text_schema(pattern="^(a{1000}){1000}$"),
    "product of small repeats": text_schema(pattern="((a{30}){30}){30}"),
    "nested groups": text_schema(pattern="(" * 200 + "a" + ")" * 200),
    "intersected patterns": {"allOf": [text_schema(pattern=f".*{c}.*{c}.*{c}") for c in "abcdefghijklmnop"]},
    "many patterns": {"patternProperties": {f"^k{i}$": True for i in range(400)}},
    "multiples": {"allOf": [{"type": "integer", "multipleOf": m} for m in (997, 991, 983, 977, 971)]},
    "product of choices": {
        "allOf": [{"anyOf": [closed_object(**{f"p{i}": {"const": j}}) for j in range(3)]} for i in range(40)]
    },
    "large enum": {"enum": list(range(100_000))},
    "many properties": {"properties": {f"p{i}": True for i in range(3000)}},
    "reference to itself": {"$ref": "#"},
    "cyclic references": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    "never ends": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "never ends in lists": {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    "dangling reference": {"$ref": "#/$defs/a"},
    "reference to a constant": {"$ref": "#/const", "const": {"type": "integer"}},
    "reference to a URL": {"$ref": "https://example.com/schema.json"},
    "own grammar options": {"x-guidance": {"lenient": True}},
    "no answer": {"type": "string", "minLength": 3, "maxLength": 2},
    "no answer in enum": {"type": "string", "enum": [1]},
    "other draft": {"$schema": "http://json-schema.org/draft-03/schema#"},
    "object as draft": {"$schema": {}},
    "object as format": text_schema(format={}),
    "control character": {"const": "\x00"},
    "inexact number": {"const": 2**53 + 1},
    "fraction of ten": {"type": "number", "multipleOf": 0.01},
    "anchor": {"$anchor": "a", "type": "integer"},
    "not anything": {"not": {}},
    "look-ahead in the middle": text_schema(pattern="^a(?!b)c"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_are_refused_quickly(name: str) -> None:
    """Guards the engine against schemas that hang, exhaust memory or would be only partly enforced."""
    TOKENIZER.load()
    start = cpu_seconds()
    with pytest.raises(OptionError) as refusal:
        compile_schema(HOSTILE[name], TOKENIZER)
    assert cpu_seconds() - start < 2
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_a_note_names_keywords_that_look_misspelled() -> None:
    """Guards against silence, and against a refusal: browser-use's schema has the unknown keyword ``min_items``."""
    compiled = compile_schema({"properties": {"a": {"type": "object", "requried": ["b"], "min_items": 1}}}, TOKENIZER)
    note = "the schema's unknown keyword 'requried' at #/properties/a is ignored: is it 'required'?"
    assert compiled.checks.notes == (note,)


def test_patterns_of_names_take_linear_time() -> None:
    """Guards against Python's re, which takes exponential time for this pattern."""
    start = cpu_seconds()
    names = {"a" * length + "b": True for length in range(40, 60)}
    compile_schema({"properties": names, "patternProperties": {"^(a+)+$": {"type": "integer"}}}, TOKENIZER)
    assert cpu_seconds() - start < 2


@pytest.mark.slow
def test_complexity_that_appears_during_an_answer_raises() -> None:
    """Guards against a hang or a crash."""
    compiled = compile_schema(text_schema(pattern="(a|b).{200}$"), TOKENIZER)
    random = np.random.default_rng(0)
    constraint, closing = compiled.constraint(), closing_tokens()
    start = time.perf_counter()
    with pytest.raises(OptionError, match="cannot continue"):  # noqa: PT012  # llguidance decides which of the two raises
        for _ in range(3000):
            scores = random.standard_normal(VOCAB_SIZE).astype(np.float32)
            scores[closing] -= 100
            constraint.mask(scores)
            constraint.accept(int(scores.argmax()))
    assert time.perf_counter() - start < 20


def test_a_tokenizer_that_llguidance_refuses_is_reported() -> None:
    with pytest.raises(DamagedModel, match="tokenizer"):
        GrammarTokenizer(TEXT_TOKENIZER, [VOCAB_SIZE + 7], VOCAB_SIZE).load()


def test_a_schema_is_compiled_once() -> None:
    """Votes and tiles use one schema many times."""
    tokenizer = GrammarTokenizer(TEXT_TOKENIZER, EOS, VOCAB_SIZE)
    first = compile_schema({"type": "integer", "minimum": 1}, tokenizer)
    assert compile_schema('{"type": "integer", "minimum": 1}', tokenizer) is first
    assert compile_schema({"type": "integer", "minimum": 2}, tokenizer) is not first
    for number in range(20):
        compile_schema({"const": number}, tokenizer)
    assert compile_schema({"type": "integer", "minimum": 1}, tokenizer) is not first


def test_large_grammars_are_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards memory: sixteen of the largest grammars would hold 250 MB."""
    tokenizer = GrammarTokenizer(TEXT_TOKENIZER, EOS, VOCAB_SIZE)
    small = compile_schema({"const": 1}, tokenizer)
    assert compile_schema({"const": 1}, tokenizer) is small
    monkeypatch.setattr(grammar, "MAX_CACHED_CHARACTERS", 1000)
    large = compile_schema({"const": "x" * 1000}, tokenizer)
    assert compile_schema({"const": "x" * 1000}, tokenizer) is large
    assert compile_schema({"const": 1}, tokenizer) is not small
    assert compile_schema({"const": "x" * 1000}, tokenizer) is not large


class PanickingMatcher:
    """A matcher whose every method panics as a Rust library does."""

    def __getattr__(self, name: str) -> object:
        return lambda *_, **__: decoders.Strip("a", 10**9, 10**9).decode(["a"])


@pytest.mark.parametrize("name", ["mask", "accept", "forced", "complete"])
def test_a_panic_during_an_answer_is_an_option_error(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Panics pass ``except Exception``, and these methods run in the engine's thread."""
    constraint = compile_schema({"type": "integer"}, TOKENIZER).constraint()
    constraint._matcher = PanickingMatcher()  # type: ignore[assignment]
    arguments = {"mask": (np.zeros(VOCAB_SIZE, np.float32),), "accept": (0,)}
    with pytest.raises(OptionError, match="crashes the library"):
        getattr(constraint, name)(*arguments.get(name, ()))
    capfd.readouterr()  # Rust writes to stderr


def test_a_panic_during_compilation_is_an_option_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llguidance.LLMatcher", PanickingMatcher())
    with pytest.raises(OptionError, match="crashes the library"):
        compile_schema({"type": "integer", "minimum": 17}, TOKENIZER)
    capfd.readouterr()
