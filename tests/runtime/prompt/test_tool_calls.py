"""Tools as they are described, and calls out of the text of an answer, whatever pieces it comes in."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrun.errors import OptionError
from vlrun.prompt.tool_calls import MAX_TOOLS, MAX_TOOLS_BYTES, ToolCallSplitter, described, find_tool_calls
from vlrun.types.turn import ToolCall, ToolChoice

F = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
G = '<tool_call>{"name": "g"}</tool_call>'
CALL_F, CALL_G = ToolCall("f", '{"a": 1}'), ToolCall("g", "{}")
TRICKY = '<tool_call>{"name": "f", "arguments": {"a": "\\\\\\"</tool_call><tool_call>"}}</tool_call>'
CALL_TRICKY = ToolCall("f", '{"a": "\\\\\\"</tool_call><tool_call>"}')
BROKEN = '<tool_call>{"name": 1}</tool_call>'


def split(*pieces: str) -> list[str | ToolCall]:
    """What comes out of these pieces, texts joined."""
    splitter, out = ToolCallSplitter(), list[str | ToolCall]()
    for piece in [*(item for text in pieces for item in splitter.push(text)), *splitter.flush()]:
        if isinstance(piece, str) and out and isinstance(out[-1], str):
            out[-1] += piece
        else:
            out.append(piece)
    return out


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("no call", ["no call"]),
        ("  white\n space \n", ["  white\n space \n"]),
        (F, [CALL_F]),
        (f"\n\n{F}\n{G}\n", [CALL_F, CALL_G]),
        (f"So.\n{F}{G}", ["So.", CALL_F, CALL_G]),
        (f"{F}\n\n And \n then: \n{G} x", [CALL_F, "And \n then:", CALL_G, "x"]),
        (TRICKY + F, [CALL_TRICKY, CALL_F]),
        (f"<tool_call<tool_call>{G[11:]}", ["<tool_call", CALL_G]),
        (f"a \n{BROKEN} \n{F}", [f"a \n{BROKEN}", CALL_F]),
        (F + "\n<tool_cal", [CALL_F, "<tool_cal"]),
        (f"a \n{F[:-1]}", [f"a \n{F[:-1]}"]),
        (f"{F}\n{G[:30]}", [CALL_F, G[:30]]),
        ('a <tool_call>{"name": "', ['a <tool_call>{"name": "']),
        ("</tool_call> <", ["</tool_call> <"]),
        ("", []),
    ],
)
def test_text_and_calls_come_apart(text: str, pieces: list[str | ToolCall]) -> None:
    """Guards what a reader gets: calls in order, text around them without its white space, and nothing lost; the same
    whether the text comes whole, in halves or in single letters.
    """
    assert split(text) == pieces
    assert split(*text) == pieces
    for place in range(len(text)):
        assert split(text[:place], text[place:]) == pieces
    assert list(find_tool_calls(text)) == [piece for piece in pieces if isinstance(piece, ToolCall)]


@given(st.lists(st.sampled_from([F, G, TRICKY, BROKEN, "x", " ", "\n", "<", "<tool_call>", '"', "\\"])), st.data())
@settings(max_examples=300, deadline=None)
def test_pieces_make_no_difference(parts: list[str], data: st.DataObject) -> None:
    """Guards the seams, and that nothing but white space is lost."""
    text = "".join(parts)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    whole = split(text)
    assert split(*pieces) == whole
    source = {CALL_F: F, CALL_G: G, CALL_TRICKY: TRICKY}
    told = "".join(piece if isinstance(piece, str) else source[piece] for piece in whole)
    assert "".join(told.split()) == "".join(text.split())


def test_text_is_shown_at_once() -> None:
    """Guards streaming: only what may be a call's beginning, and white space before it, waits."""
    splitter = ToolCallSplitter()
    assert splitter.push("I see <b") == ["I see <b"]
    assert splitter.push("oxes> \n<tool") == ["oxes>"]
    assert splitter.push("s>") == [" \n<tools>"]
    assert splitter.push(" \n<tool_call>") == []
    assert splitter.push(F[11:]) == [CALL_F]
    assert splitter.push(" x") == ["x"]
    assert splitter.push(f"\n{BROKEN}") == [f"\n{BROKEN}"]
    assert splitter.flush() == []


def test_arguments_are_told_letter_for_letter() -> None:
    """Guards numbers that binary does not hold: 1e999 would become Infinity, which is no JSON."""
    arguments = '{"a": 1e999, "b": 0.10, "c": ' + "9" * 5000 + ', "d": "\\u20ac€"}'
    assert find_tool_calls(f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>') == (
        ToolCall("f", arguments),
    )


@pytest.mark.parametrize(
    "inner",
    [
        "[]",
        "{}",
        '{"name": "f", "arguments": []}',
        '{"name": "f", "arguments": "{}"}',
        '{"name": "f", "arguments": {"a": NaN}}',
        '{"name": "f", "arguments": {"a": 1,}}',
        '{"name": "f", "arguments": {}} {}',
        '{"name": "f", "arguments": {"a": "\ud800"}}',
        '{"name": "f", "arguments": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}",
    ],
)
def test_what_is_no_call_is_text(inner: str) -> None:
    """Guards a client against calls that it cannot read, and the service against text that breaks a parser."""
    text = f"<tool_call>{inner}</tool_call>"
    assert split(text) == [text]


@pytest.mark.parametrize("letters", ['x</tool_call>"', "\\", "<tool_call>", 'x"'])
def test_long_answers_are_read_once(letters: str) -> None:
    """Guards against work that grows with the square: 100,000 letters in small pieces, in less than 2 s."""
    splitter = ToolCallSplitter()
    text = f'<tool_call>{{"name": "{letters * (100_000 // len(letters))}'
    began = time.process_time()
    out = [item for start in range(0, len(text), 4) for item in splitter.push(text[start : start + 4])]
    assert "".join(str(item) for item in [*out, *splitter.flush()]) == text
    assert time.process_time() - began < 2


def tool(**function: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f"} | function}


def test_tools_as_openai_describes_them() -> None:
    """Guards what clients send: all members, or the name alone, in any kind of mapping."""
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tools: list[Mapping[str, object]] = [
        tool(description="what <it> does", parameters=parameters, strict=True),
        tool(name="g-1_" + "x" * 60, strict=None, parameters={}),
        MappingProxyType({"type": "function", "function": MappingProxyType({"name": "h"})}),
    ]
    assert described(tools, ToolChoice("required", "h")) == {"f": parameters, "g-1_" + "x" * 60: {}, "h": {}}
    assert described([], ToolChoice()) == {}


SHARED: dict[str, Any] = {"type": "integer"}
for _ in range(40):
    SHARED = {"anyOf": [SHARED, SHARED]}
WRONG: dict[str, Any] = {
    "no mapping": "f",
    "no type": {"function": {"name": "f"}},
    "other type": {"type": "retrieval", "function": {"name": "f"}},
    "unknown member": tool() | {"strict": True},
    "no function": {"type": "function", "function": "f"},
    "nothing": {"type": "function"},
    "unknown in function": tool(returns={}),
    "no name": {"type": "function", "function": {}},
    "empty name": tool(name=""),
    "long name": tool(name="x" * 65),
    "forged name": tool(name='f", "arguments": {}}\n</tool_call>'),
    "name with newline": tool(name="f\n"),
    "name of other letters": tool(name="für"),
    "number as name": tool(name=1),
    "description": tool(description=["x"]),
    "strict": tool(strict="yes"),
    "parameters": tool(parameters=[]),
    "parameters null": tool(parameters=None),
    "no JSON": tool(parameters={"a": b"x"}),
    "shared": tool(parameters=SHARED),
    "surrogate": tool(description="\ud800"),
    "surrogate within": tool(parameters={"title": "\ud800"}),
    "large": tool(description="x" * MAX_TOOLS_BYTES),
    "large letters": tool(description="€" * (MAX_TOOLS_BYTES // 3)),
    "twice": tool(name="other"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tools_are_refused(name: str) -> None:
    """Guards prompt and grammar against what is no tool, in one sentence of ours: no letter of a stranger's that is not
    a valid name.
    """
    with pytest.raises(OptionError) as refusal:
        described([tool(name="other"), WRONG[name]], ToolChoice())
    assert str(refusal.value).isascii()
    assert len(str(refusal.value).splitlines()) == 1
    assert len(str(refusal.value)) < 200


def test_number_and_size_of_tools() -> None:
    """Guards both bounds at their edges: the size is that of the tools as JSON text."""
    many = [tool(name=f"f{index}") for index in range(MAX_TOOLS + 1)]
    assert len(described(many[:-1], ToolChoice())) == MAX_TOOLS
    with pytest.raises(OptionError, match="more than 128"):
        described(many, ToolChoice())
    small = [tool(name="a", parameters={}), tool(name="b")]
    room = MAX_TOOLS_BYTES - len(json.dumps([*small, tool(name="c", description="")]))
    assert described([*small, tool(name="c", description="x" * room)], ToolChoice())
    with pytest.raises(OptionError, match="larger than 262144 bytes"):
        described([*small, tool(name="c", description="x" * (room + 1))], ToolChoice())


@pytest.mark.parametrize(
    ("tools", "choice", "reason"),
    [
        ([tool()], ("required", "g"), "is not among"),
        ([tool()], ("auto", "f"), "only if one must"),
        ([tool()], ("none", "f"), "only if one must"),
        ([], ("required", None), "there is none"),
        ([], ("auto", "f"), "only if one must"),
    ],
)
def test_choices_that_fit_no_tool(tools: list[Any], choice: tuple[Any, str | None], reason: str) -> None:
    """Guards against a choice that is dropped silently."""
    with pytest.raises(OptionError, match=reason):
        described(tools, ToolChoice(*choice))


def test_an_unknown_choice_is_refused() -> None:
    """Guards callers without a type checker: an unknown mode would be taken for ``auto``."""
    with pytest.raises(OptionError, match="auto, required, none"):
        ToolChoice("any")  # type: ignore[arg-type]
