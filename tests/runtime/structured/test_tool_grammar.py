"""Answers that may or must call tools, on random logits."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from tokenizers import Tokenizer

from tests.published import PUBLISHED, needs_published
from tests.runtime.structured.cpu_time import cpu_seconds
from tests.runtime.structured.tool_answers import (
    AUTO,
    BEGIN,
    END,
    REQUIRED,
    SCHEMAS,
    TINY,
    TOOLS,
    WORD,
    GrammarModel,
    RandomAnswers,
    check_calls,
    compiled,
    format_calls,
    function,
    members,
    model_of,
)
from vlrun.embedded import FOLDER
from vlrun.errors import OptionError
from vlrun.models.qwen3_vl.family import QWEN3_VL
from vlrun.prompt.tool_calls import ToolCallParser, find_tool_calls
from vlrun.structured.grammar import Grammar, GrammarTokenizer
from vlrun.structured.tool_grammar import MAX_CALLS, OptionalToolCallsGrammar, compile_answer
from vlrun.types.turn import Tool, ToolCall, ToolChoice

pytestmark = pytest.mark.slow


@pytest.fixture(params=["tiny", pytest.param("published", marks=needs_published)])
def model(request: pytest.FixtureRequest) -> GrammarModel:
    made = TINY if request.param == "tiny" else model_of(PUBLISHED, (151645, 151643), 151669)
    made.tokenizer.load(fast_masks=True)
    return made


def test_required_calls_are_valid(model: GrammarModel) -> None:
    """Nothing but calls in the template's format, each valid for its tool; forced tokens never contradict the
    constraint.
    """
    names = set[str]()
    counts = set[int]()
    for tokens in RandomAnswers(model, np.random.default_rng(5)).answers(compiled(model), 200):
        text = model.text_of(tokens)
        calls = find_tool_calls(text, QWEN3_VL.tool_calls)
        assert text == format_calls(calls)
        check_calls(calls)
        assert 1 <= len(calls) <= MAX_CALLS
        names |= {call.name for call in calls}
        counts.add(len(calls))
    assert names == set(SCHEMAS)
    assert counts > {1}


def test_optional_calls_are_valid_and_the_text_before_has_no_control_tokens(model: GrammarModel) -> None:
    calling = 0
    for tokens in RandomAnswers(model, np.random.default_rng(6), calling=0.1).answers(
        compiled(model, choice=AUTO), 200
    ):
        text = model.text_of(tokens)
        calls = find_tool_calls(text, QWEN3_VL.tool_calls)
        before, begin, rest = text.partition(BEGIN)
        assert begin + rest == format_calls(calls)
        check_calls(calls)
        calling += bool(calls)
        first = tokens.index(model.begin) if calls else len(tokens)
        assert not set(tokens[:first]) & (set(model.tokenizer.control.values()) - thinking_ids(model)), before
    assert 50 < calling < 200


def thinking_ids(model: GrammarModel) -> set[int]:
    return {model.tokenizer.control["<think>"], model.tokenizer.control["</think>"]}


def test_tools_beside_a_schema_give_the_schemas_json_or_calls(model: GrammarModel) -> None:
    """Never a mixture, never free text."""
    schema = members(a=WORD, b={"type": "array", "items": {"type": "integer", "maximum": 9}, "maxItems": 3})
    random_answers, calling = RandomAnswers(model, np.random.default_rng(7), calling=0.3), 0
    for tokens in random_answers.answers(compiled(model, choice=AUTO, schema=schema), 100):
        text = model.text_of(tokens)
        calls = find_tool_calls(text, QWEN3_VL.tool_calls)
        if calls:
            assert text == format_calls(calls)
            check_calls(calls)
        else:
            assert Draft202012Validator(schema).is_valid(json.loads(text)), text
        calling += bool(calls)
    assert 0 < calling < 100


def test_incomplete_calls_stay_text() -> None:
    """An answer cut at any token has the calls that were complete; the rest stays text."""
    random_answers = RandomAnswers(TINY, np.random.default_rng(8))
    for tokens in random_answers.answers(compiled(TINY), 20):
        ends = [index for index, token in enumerate(tokens) if token == TINY.tokenizer.control[END]]
        for cut in range(len(tokens)):
            text = TINY.text_of(tokens[:cut])
            parser = ToolCallParser(QWEN3_VL.tool_calls)
            pieces = [*parser.push(text), *parser.flush()]
            calls = [piece for piece in pieces if isinstance(piece, ToolCall)]
            assert len(calls) == sum(end < cut for end in ends)
            remaining = "".join(piece for piece in pieces if isinstance(piece, str))
            assert text.replace("\n", "").endswith(remaining.replace("\n", ""))
            assert (BEGIN in remaining) == (BEGIN in text.rpartition(END)[2])


def test_single_and_named_calls_are_enforced() -> None:
    random_answers = RandomAnswers(TINY, np.random.default_rng(9))
    single = compiled(TINY, choice=ToolChoice("required", "price", parallel=False))
    for tokens in random_answers.answers(single, 30):
        (call,) = find_tool_calls(TINY.text_of(tokens), QWEN3_VL.tool_calls)
        assert call.name == "price"
    for tokens in random_answers.answers(compiled(TINY, choice=ToolChoice("required", "tags")), 30):
        assert {call.name for call in find_tool_calls(TINY.text_of(tokens), QWEN3_VL.tool_calls)} == {"tags"}


def test_the_number_of_calls_is_limited() -> None:
    call = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    grammar = compiled(TINY)
    maximum = TINY.ids("\n".join([call] * MAX_CALLS))
    assert TINY.allowed(TINY.follow(grammar, maximum)) == set(TINY.tokenizer.eos)
    before = TINY.follow(grammar, TINY.ids("\n".join([call] * (MAX_CALLS - 1))))
    assert TINY.allowed(before) == {*TINY.tokenizer.eos, *TINY.ids("\n")}
    assert before.complete


@pytest.mark.parametrize("choice", [AUTO, REQUIRED], ids=["auto", "required"])
def test_arguments_contain_no_control_tokens(model: GrammarModel, choice: ToolChoice) -> None:
    """Guards against a call inside a call: in a string, the begin and end tokens can only be plain text."""
    start = '<tool_call>\n{"name": "price_of", "arguments": {"thing": "'
    constraint = model.follow(compiled(model, choice=choice), model.ids(start))
    assert not model.allowed(constraint) & set(model.tokenizer.control.values())
    with pytest.raises(OptionError, match="may not follow"):
        constraint.accept(model.begin)
    free = compiled(model, [function("say", members(text={"type": "string"}))], choice)
    inner = '</tool_call><tool_call>{\\"name\\": 1}'
    opened, closed = '<tool_call>\n{"name": "say", "arguments": {"text": "', '"}}\n</tool_call>'
    tokens = [*model.ids(opened), *model.character_ids(inner), *model.ids(closed)]
    assert model.follow(free, tokens).complete
    assert find_tool_calls(model.text_of(tokens), QWEN3_VL.tool_calls) == (ToolCall("say", f'{{"text": "{inner}"}}'),)


def test_calls_cannot_be_written_as_text(model: GrammarModel) -> None:
    """Guards against a call that no grammar checks: the last character of the begin token is forbidden in free text and
    in JSON.
    """
    for schema, text in ((None, 'So: <tool_call<tool_call>{"name": "rm"}'), ({"type": "string"}, '"<tool_call>"')):
        constraint = compiled(model, choice=AUTO, schema=schema).constraint()
        letters = model.character_ids(text)
        for token in letters[: text.index("call>") + len("call")]:
            assert token in model.allowed(constraint)
            constraint.accept(token)
        closing = {t for t in model.allowed(constraint) if model.tokenizer.load().decode_bytes([t])[:1] == b">"}
        assert not closing - {model.begin}
        with pytest.raises(OptionError, match="may not follow"):
            constraint.accept(model.character_ids(">")[0])
        constraint.accept(model.character_ids("s")[0])
        assert model.character_ids(">")[0] in model.allowed(constraint)


def test_a_schema_that_requires_the_begin_token_raises() -> None:
    """Guards against an answer that can neither continue nor end, and against forced tokens that are not allowed."""
    constraint = compiled(TINY, choice=AUTO, schema={"const": BEGIN}).constraint()
    with pytest.raises(OptionError, match="cannot continue"):  # noqa: PT012  # where it raises depends on the tokenizer
        for token in TINY.character_ids(f'"{BEGIN}'):
            forced = constraint.forced()
            assert forced == [] or forced[0] in TINY.allowed(constraint)
            TINY.allowed(constraint)
            constraint.accept(token)
    assert constraint.forced() == []


def test_free_text_is_unconstrained() -> None:
    """Nothing is forced, and the answer may end at any token."""
    constraint = compiled(TINY, choice=AUTO).constraint()
    all_tokens = set(range(TINY.tokenizer.vocab_size))
    forbidden = set(TINY.tokenizer.control.values()) - thinking_ids(TINY) - {TINY.begin, *TINY.tokenizer.eos}
    for token in TINY.character_ids("It is <3\n"):
        assert TINY.allowed(constraint) == all_tokens - forbidden
        assert constraint.forced() == []
        assert constraint.complete
        constraint.accept(token)
    constraint.accept(TINY.tokenizer.eos[0])
    assert TINY.allowed(constraint) == set(TINY.tokenizer.eos)
    with pytest.raises(OptionError, match="may not follow"):
        constraint.accept(0)
    with pytest.raises(OptionError, match="may not follow"):
        constraint.accept(TINY.begin)
    with pytest.raises(OptionError, match="may not follow"):
        compiled(TINY, choice=AUTO).constraint().accept(TINY.tokenizer.control["<|im_start|>"])


def test_free_text_takes_less_than_half_a_millisecond_per_token(model: GrammarModel) -> None:
    constraint = compiled(model, choice=AUTO).constraint()
    scores = np.zeros(model.tokenizer.vocab_size, np.float32)
    tokens = model.character_ids("what is it worth <tool" * 20)
    began = time.process_time()
    for token in tokens:
        constraint.forced()
        constraint.mask(scores)
        constraint.accept(token)
    assert (time.process_time() - began) / len(tokens) < 0.0005


def test_answers_without_tools_are_free_or_follow_the_schema() -> None:
    schema = {"type": "integer"}
    assert compile_answer(None, [], AUTO, TINY.tokenizer, QWEN3_VL) is None
    for tools, choice in (([], AUTO), (TOOLS, ToolChoice("none"))):
        constraint = TINY.follow(compile_answer(schema, tools, choice, TINY.tokenizer, QWEN3_VL), TINY.ids("12"))
        assert constraint.complete
        assert TINY.begin not in TINY.allowed(constraint)


def test_choice_none_forbids_calls() -> None:
    """The tools stay in the cached prompt, so the model may tend to call them."""
    constraint = TINY.follow(
        compile_answer(None, TOOLS, ToolChoice("none"), TINY.tokenizer, QWEN3_VL), TINY.ids("Well, ")
    )
    allowed = TINY.allowed(constraint)
    assert TINY.begin not in allowed
    assert len(allowed) > 900
    assert constraint.complete


def test_the_same_tools_are_compiled_once() -> None:
    tokenizer = GrammarTokenizer(TINY.text_tokenizer, (1006, 1004), 1024)

    def calls(tools: Sequence[Tool], choice: ToolChoice) -> object:
        grammar = compile_answer(None, tools, choice, tokenizer, QWEN3_VL)
        compiled = grammar.calls if isinstance(grammar, OptionalToolCallsGrammar) else grammar
        return compiled.matcher if isinstance(compiled, Grammar) else None

    first = calls(TOOLS, REQUIRED)
    assert calls(json.loads(json.dumps(TOOLS)), AUTO) is first
    others = [
        calls(TOOLS, ToolChoice("required", parallel=False)),
        calls(TOOLS, ToolChoice("required", "now")),
        calls(TOOLS[1:], REQUIRED),
        calls([*TOOLS[:-1], function("now", members())], REQUIRED),
    ]
    assert len({id(grammar) for grammar in (first, *others)}) == 5


def test_models_without_tool_calls_refuse_tools() -> None:
    file = json.loads((FOLDER / "tokenizer.json").read_text("utf-8"))
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] != END]
    tokenizer = GrammarTokenizer(Tokenizer.from_str(json.dumps(file)), (1006, 1004), 1024)
    with pytest.raises(OptionError, match="this model has no tool calls"):
        compile_answer(None, TOOLS, AUTO, tokenizer, QWEN3_VL)
    assert compile_answer(None, TOOLS, ToolChoice("none"), tokenizer, QWEN3_VL) is not None


def properties(count: int) -> dict[str, object]:
    return {f"p{index}": {"type": "integer"} for index in range(count)}


HOSTILE: dict[str, Any] = {
    "no object": {"type": "array"},
    "object or not": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    "never": members(a={"type": "string", "minLength": 3, "maxLength": 2}),
    "false within": {**members(a=False)},
    "infinite recursion": members(a={"$ref": "#"}),
    "unsupported": {"not": {"type": "object"}},
    "own grammar options": {"x-guidance": {"whitespace_flexible": True}},
    "deep": json.loads('{"items":' * 60 + "true" + "}" * 60),
    "many": {"properties": properties(600)},
    "pattern": members(a={"type": "string", "pattern": "((a{30}){30}){30}"}),
    "intersected": {"allOf": [{"type": "string", "pattern": f".*{c}.*{c}.*{c}"} for c in "abcdefghijklmnop"]},
    "choices": {"allOf": [{"anyOf": [members(**{f"p{i}": {"const": j}}) for j in range(3)]} for i in range(40)]},
    "reference outside its own schema": {"$ref": "#/$defs/it"},
    "newline": {"const": '}\n</tool_call>\x00"'},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_parameters_are_refused_quickly(name: str) -> None:
    """Whatever `compile_schema` refuses is refused here too; the message names the tool if one schema is to blame."""
    before = cpu_seconds()
    with pytest.raises(OptionError) as refusal:
        compiled(TINY, [*TOOLS, function("wrong", HOSTILE[name])])
    assert cpu_seconds() - before < 2
    assert "'wrong'" in str(refusal.value) or "tools' parameters" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_many_tools_compile_quickly() -> None:
    tools = [function(f"tool_{index}", members(**properties(40))) for index in range(128)]
    before = cpu_seconds()
    constraint = compiled(TINY, tools).constraint()
    assert cpu_seconds() - before < 2
    for token in TINY.ids('<tool_call>\n{"name": "tool_127", "arguments": {"p0": 1, "p1": '):
        assert token in TINY.allowed(constraint)
        constraint.accept(token)
