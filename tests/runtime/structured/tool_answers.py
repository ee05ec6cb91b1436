"""Tools, tokenizers, and random answers under a grammar with tool calls."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jsonschema import Draft202012Validator

from vlrun.embedded import FOLDER
from vlrun.models.qwen3_vl.family import QWEN3_VL
from vlrun.prompt.detokenizer import Detokenizer
from vlrun.prompt.tokenizer import parse_tokenizer
from vlrun.structured.grammar import GrammarTokenizer
from vlrun.structured.tool_grammar import AnswerGrammar, compile_answer
from vlrun.types.turn import Tool, ToolCall, ToolChoice

BEGIN, END = QWEN3_VL.tool_calls.begin, QWEN3_VL.tool_calls.end
AUTO, REQUIRED = ToolChoice(), ToolChoice("required")


def function(name: str, parameters: object = None) -> Tool:
    described = {"name": name} if parameters is None else {"name": name, "parameters": parameters}
    return {"type": "function", "function": described}


def members(**properties: object) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


WORD = {"type": "string", "maxLength": 8}
TOOLS = [
    function("price_of", members(thing=WORD, unit={"enum": ["€", "kg <b>", 'say "hi"']})),
    function("price", {"$ref": "#/$defs/it", "$defs": {"it": members(cents={"type": "integer", "maximum": 99})}}),
    # The same $defs name as above, for another schema.
    function("move-to", {"$defs": {"it": {"type": "boolean"}}, **members(up={"$ref": "#/$defs/it"})}),
    function("plate", members(text={"type": "string", "pattern": "^[A-Z]{1,3} [0-9]{1,4}$"})),
    function("tags", {"additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9}, "maxProperties": 2}),
    function("now"),
]
SCHEMAS = {str(tool["function"]["name"]): tool["function"].get("parameters", {}) for tool in TOOLS}  # type: ignore[index, attr-defined]


@dataclass(frozen=True)
class GrammarModel:
    """A real tokenizer without a model."""

    text_tokenizer: Any
    tokenizer: GrammarTokenizer

    @property
    def begin(self) -> int:
        return self.tokenizer.control[BEGIN]

    def text_of(self, tokens: Sequence[int]) -> str:
        """Return the text as a user gets it."""
        detokenizer = Detokenizer(self.text_tokenizer)
        return "".join([*map(detokenizer.push, tokens), detokenizer.flush()])

    def allowed(self, constraint: Any) -> set[int]:
        scores = np.zeros(self.tokenizer.vocab_size, np.float32)
        constraint.mask(scores)
        return {int(token) for token in np.flatnonzero(scores == 0)}

    def ids(self, text: str) -> list[int]:
        """Tokenize a text with control tokens recognized."""
        tokens, control = self.tokenizer.load(), self.tokenizer.control
        pieces = re.split(f"({'|'.join(map(re.escape, control))})", text)
        ids = [[control[piece]] if piece in control else tokens.tokenize_bytes(piece.encode()) for piece in pieces]
        return [token for piece in ids for token in piece]

    def character_ids(self, text: str) -> list[int]:
        """Tokenize a text one character at a time, so that no control token is recognized."""
        return [token for letter in text for token in self.ids(letter)]

    def follow(self, grammar: AnswerGrammar | None, tokens: Sequence[int]) -> Any:
        assert grammar
        constraint = grammar.constraint()
        for token in tokens:
            constraint.accept(token)
        return constraint


@cache
def model_of(folder: Path, eos: tuple[int, ...], size: int) -> GrammarModel:
    content = (folder / "tokenizer.json").read_bytes()
    tokenizer = parse_tokenizer(content, "tokenizer.json")
    return GrammarModel(tokenizer, GrammarTokenizer(tokenizer, eos, size))


TINY = model_of(FOLDER, (1006, 1004), 1024)


@dataclass
class RandomAnswers:
    """Answers from random logits, increasingly biased towards an end. ``calling``: the share of steps in which the
    begin token scores highest.
    """

    model: GrammarModel
    random: np.random.Generator
    calling: float = 0.0

    def __post_init__(self) -> None:
        size, tokens = self.model.tokenizer.vocab_size, self.model.tokenizer.load()
        self.pool = self.random.standard_normal(3 * size).astype(np.float32) * 3
        ends = [i for i in range(size) if tokens.decode_bytes([i])[:1] in (b'"', b"}", b"]")]
        self.closing = [*ends, *self.model.tokenizer.eos, self.model.tokenizer.control[END]]
        # Characters of the begin and end tokens, made likely so that they are sometimes written as text.
        self.call_characters = [
            i for i in range(size) if (t := tokens.decode_bytes([i])) and t in END.encode() + b">\n>"
        ]

    def random_scores(self, step: int) -> npt.NDArray[np.float32]:
        start = int(self.random.integers(2 * self.model.tokenizer.vocab_size))
        scores = self.pool[start : start + self.model.tokenizer.vocab_size].copy()
        scores[self.call_characters] += 4
        scores[self.closing] += 0.3 * step
        if self.random.random() < self.calling:
            scores[self.model.begin] = scores.max() + 1
        return scores

    def answer(self, grammar: AnswerGrammar, limit: int = 120) -> list[int] | None:
        """Return an answer's tokens without its end token; None if it was cut short."""
        constraint, tokens = grammar.constraint(), list[int]()
        pending: list[int] = []  # announced tokens that are not yet accepted
        for step in range(limit):
            forced = list(constraint.forced())
            assert forced[: len(pending)] == pending[: len(forced)]
            scores = self.random_scores(step)
            constraint.mask(scores)
            token = int(scores.argmax())
            assert not forced or token == forced[0]
            pending = forced[1:]
            constraint.accept(token)
            if token in self.model.tokenizer.eos:
                assert constraint.complete
                return tokens
            tokens.append(token)
        return None

    def answers(self, grammar: AnswerGrammar, count: int) -> Iterator[list[int]]:
        ended = (tokens for _ in range(10 * count) if (tokens := self.answer(grammar)) is not None)
        answers = list(itertools.islice(ended, count))
        assert len(answers) == count
        yield from answers


def compiled(
    model: GrammarModel, tools: Sequence[Tool] = TOOLS, choice: ToolChoice = REQUIRED, schema: Any = None
) -> AnswerGrammar:
    grammar = compile_answer(schema, tools, choice, model.tokenizer, QWEN3_VL)
    assert grammar
    return grammar


def check_calls(calls: Sequence[ToolCall]) -> None:
    for call in calls:
        assert Draft202012Validator(SCHEMAS[call.name]).is_valid(json.loads(call.arguments)), call
        assert isinstance(json.loads(call.arguments), dict)


def format_calls(calls: Sequence[ToolCall]) -> str:
    """Format calls as the chat template does."""
    return "\n".join(
        f'<tool_call>\n{{"name": "{call.name}", "arguments": {call.arguments}}}\n</tool_call>' for call in calls
    )
