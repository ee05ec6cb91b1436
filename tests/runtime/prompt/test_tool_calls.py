"""Parsing tool calls from a streamed answer."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrun.models.qwen3_vl.tool_calls import TOOL_CALLS
from vlrun.prompt.tool_calls import ToolCallParser, find_tool_calls
from vlrun.types.turn import ToolCall

F = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
G = '<tool_call>{"name": "g"}</tool_call>'
CALL_F, CALL_G = ToolCall("f", '{"a": 1}'), ToolCall("g", "{}")
TRICKY = '<tool_call>{"name": "f", "arguments": {"a": "\\\\\\"</tool_call><tool_call>"}}</tool_call>'
CALL_TRICKY = ToolCall("f", '{"a": "\\\\\\"</tool_call><tool_call>"}')
BROKEN = '<tool_call>{"name": 1}</tool_call>'


def parse(*pieces: str) -> list[str | ToolCall]:
    """Return the output for these pieces, with adjacent texts joined."""
    parser, out = ToolCallParser(TOOL_CALLS), list[str | ToolCall]()
    for piece in [*(item for text in pieces for item in parser.push(text)), *parser.flush()]:
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
        (f"So: {G}{G}", ["So:", CALL_G, CALL_G]),
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
def test_text_and_calls_are_separated(text: str, pieces: list[str | ToolCall]) -> None:
    """The result is the same for the whole text, for halves and for single characters."""
    assert parse(text) == pieces
    assert parse(*text) == pieces
    for cut in range(len(text)):
        assert parse(text[:cut], text[cut:]) == pieces
    assert list(find_tool_calls(text, TOOL_CALLS)) == [piece for piece in pieces if isinstance(piece, ToolCall)]


@given(st.lists(st.sampled_from([F, G, TRICKY, BROKEN, "x", " ", "\n", "<", "<tool_call>", '"', "\\"])), st.data())
@settings(max_examples=300, deadline=None)
def test_the_result_does_not_depend_on_the_pieces(parts: list[str], data: st.DataObject) -> None:
    """Only white space around calls is lost."""
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = parse(text)
    assert parse(*pieces) == whole
    source = {CALL_F: F, CALL_G: G, CALL_TRICKY: TRICKY}
    joined = "".join(piece if isinstance(piece, str) else source[piece] for piece in whole)
    assert "".join(joined.split()) == "".join(text.split())


def test_only_a_possible_call_is_held_back() -> None:
    parser = ToolCallParser(TOOL_CALLS)
    assert parser.push("I see <b") == ["I see <b"]
    assert parser.push("oxes> \n<tool") == ["oxes>"]
    assert parser.push("s>") == [" \n<tools>"]
    assert parser.push(" \n<tool_call>") == []
    assert parser.push(F[11:]) == [CALL_F]
    assert parser.push(" x") == ["x"]
    assert parser.push(f"\n{BROKEN}") == [f"\n{BROKEN}"]
    assert parser.flush() == []


def test_arguments_are_not_reformatted() -> None:
    """Guards numbers that a float cannot hold: 1e999 would become Infinity, which is not JSON."""
    arguments = '{"a": 1e999, "b": 0.10, "c": ' + "9" * 5000 + ', "d": "\\u20ac€"}'
    assert find_tool_calls(f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>', TOOL_CALLS) == (
        ToolCall("f", arguments),
    )


@pytest.mark.parametrize(
    "inner",
    [
        "[]",
        "{}",
        "[" * 100_000,
        '{"name": "f", "arguments": []}',
        '{"name": "f", "arguments": "{}"}',
        '{"name": "f", "arguments": {"a": NaN}}',
        '{"name": "f", "arguments": {"a": 1,}}',
        '{"name": "f", "arguments": {}} {}',
        '{"name": "f", "arguments": {"a": "\ud800"}}',
        '{"name": "f", "arguments": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}",
    ],
)
def test_invalid_calls_stay_text(inner: str) -> None:
    text = f"<tool_call>{inner}</tool_call>"
    assert parse(text) == [text]
    assert find_tool_calls(text, TOOL_CALLS) == ()


@pytest.mark.parametrize("letters", ['x</tool_call>"', "\\", "<tool_call>", 'x"'])
def test_parsing_takes_linear_time(letters: str) -> None:
    """100,000 characters in small pieces take less than 2 s of CPU time."""
    parser = ToolCallParser(TOOL_CALLS)
    text = f'<tool_call>{{"name": "{letters * (100_000 // len(letters))}'
    began = time.process_time()
    out = [item for start in range(0, len(text), 4) for item in parser.push(text[start : start + 4])]
    assert "".join(str(item) for item in [*out, *parser.flush()]) == text
    assert time.process_time() - began < 2
