"""What happens to answers that a grammar alone cannot keep valid."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import vlrun
from tests.runtime.structured.tool_answers import format_calls, function, members
from tests.scripted_vlm import ScriptedVLM
from vlrun.embedded import FOLDER
from vlrun.errors import InvalidAnswer, SchemaViolation, ToolError
from vlrun.server.api_errors import api_error
from vlrun.types.answer import Answer, last_of
from vlrun.types.turn import Tool, ToolCall, ToolChoice, Turn

QUESTION = [Turn("user", ("What is on the shelf?",))]
TAGS = members(tags={"type": "array", "items": {"type": "string"}, "uniqueItems": True})
REMOTE = members(a={"$ref": "https://example.com/schema.json"})
SLOW = {"allOf": [{"type": "object", "patternProperties": {f".*{c}.*{c}.*{c}": True}} for c in "abcdefghijklmnop"]}


@pytest.fixture
def vlm() -> ScriptedVLM:
    return ScriptedVLM((FOLDER / "chat_template.jinja").read_text("utf-8"))


def answer_with_schema(vlm: ScriptedVLM, schema: Mapping[str, object], text: str) -> Answer:
    vlm.write(text)
    options = vlrun.Options(schema=schema, temperature=0, max_tokens=4000, repetition_guard=False)
    return last_of(vlm.chat(QUESTION, options))


def answer_with_tools(vlm: ScriptedVLM, tools: list[Tool], choice: ToolChoice, *calls: ToolCall) -> Answer:
    vlm.write(format_calls(calls))
    return last_of(vlm.chat(QUESTION, vlrun.Options(temperature=0), tools, choice))


def strict(tool: Tool) -> Tool:
    described: Any = tool["function"]
    return {"type": "function", "function": {**described, "strict": True}}


def test_a_valid_answer_has_a_value(vlm: ScriptedVLM) -> None:
    assert answer_with_schema(vlm, TAGS, '{"tags": ["a", "b"]}').value == {"tags": ["a", "b"]}


def test_a_violation_is_an_error_with_the_text(vlm: ScriptedVLM) -> None:
    """Over HTTP too: an invalid answer must not look like a valid one."""
    text = '{"tags": ["a", "a"]}'
    with pytest.raises(InvalidAnswer, match="the answer violates the schema at #/properties/tags/uniqueItems") as error:
        answer_with_schema(vlm, TAGS, text)
    assert error.value.answer.text == text
    assert pickle.loads(pickle.dumps(error.value)).answer.text == text
    assert isinstance(error.value, SchemaViolation)
    assert (api_error(error.value).status, api_error(error.value).code) == (422, "invalid_answer")
    assert error.value.http_status == 422


def test_an_answer_that_cannot_continue_is_an_error_with_its_text(
    vlm: ScriptedVLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text so far was lost."""
    monkeypatch.setattr("vlrun.structured.grammar.LEXER_STATES", 2000)
    schema = {"type": "string", "pattern": "(a|b).{200}$"}
    text = json.dumps("".join(np.random.default_rng(0).choice(["a", "x"], 600)))
    with pytest.raises(SchemaViolation, match="cannot continue under the schema") as error:
        answer_with_schema(vlm, schema, text)
    assert len(error.value.answer.text) > 10
    assert text.startswith(error.value.answer.text)


@pytest.mark.parametrize("parameters", [REMOTE, SLOW], ids=["unsupported", "slow"])
def test_a_tool_that_cannot_be_enforced_runs_without_its_schema(vlm: ScriptedVLM, parameters: Any) -> None:
    """Clients send tools of many servers, and one of them made all requests fail."""
    tools = [function("good", TAGS), function("odd", parameters)]
    calls = ToolCall("odd", '{"a": 1}'), ToolCall("good", '{"tags": ["x"]}')
    answer = answer_with_tools(vlm, tools, ToolChoice(), *calls)
    assert answer.tool_calls == calls
    (note,) = answer.notes
    assert note.startswith("the parameters of the tool 'odd' are not supported: ")
    assert note.endswith(": its arguments may be any object")
    chunks = list(vlm.chat(QUESTION, vlrun.Options(temperature=0), tools))
    assert chunks[0].notes == (note,)


@pytest.mark.parametrize("parameters", [REMOTE, SLOW], ids=["unsupported", "slow"])
def test_a_strict_or_required_tool_that_cannot_be_enforced_is_refused(vlm: ScriptedVLM, parameters: Any) -> None:
    tool = function("odd", parameters)
    for tools, choice in (([strict(tool)], ToolChoice()), ([tool], ToolChoice("required"))):
        with pytest.raises(ToolError):
            answer_with_tools(vlm, tools, choice)


def test_calls_are_checked(vlm: ScriptedVLM) -> None:
    """A call of a tool that is not strict may violate its schema, as clients expect; a note says so."""
    call, tool = ToolCall("good", '{"tags": ["x", "x"]}'), function("good", TAGS)
    message = "the call of 'good' violates its parameters at #/properties/tags/uniqueItems"
    answer = answer_with_tools(vlm, [tool], ToolChoice(), call)
    assert answer.tool_calls == (call,)
    assert answer.notes == (message,)
    for tools, choice in (([strict(tool)], ToolChoice()), ([tool], ToolChoice("required"))):
        with pytest.raises(SchemaViolation) as error:
            answer_with_tools(vlm, tools, choice, call)
        assert error.value.message == message
        assert error.value.answer.tool_calls == (call,)


def test_strict_is_not_part_of_the_prompt(vlm: ScriptedVLM) -> None:
    prompts = [vlm.build_prompt(QUESTION, [tool]).prompt.ids for tool in (function("f"), strict(function("f")))]
    assert prompts[0] == prompts[1]
