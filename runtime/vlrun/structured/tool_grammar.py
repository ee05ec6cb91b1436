"""Answers that may or must call tools: free text or a schema's JSON until a call begins, and every call valid.

Knows schemas, tools, the model's vocabulary and rows of scores; knows neither prompts nor devices. A call is written
as Qwen's chat template shows it to the model, its arguments as ``grammar`` writes JSON. It begins with the
model's own token and never with its letters, so that nobody talks the model into spelling a call that nothing checks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from vlrun.errors import OptionError, SchemaError, ToolError
from vlrun.prompt.tool_calls import BEGIN, END, Parameters, described, in_parameters
from vlrun.structured.grammar import (
    SAFE_BYTES,
    WRITING,
    Grammar,
    GrammarConstraint,
    Vocabulary,
    compile_grammar,
    compile_schema,
)
from vlrun.structured.schema_check import Schema, checked
from vlrun.structured.schema_refs import is_risky
from vlrun.types.turn import Tool, ToolChoice

MAX_CALLS = 16
"""In one answer."""

_THOUGHT = frozenset({"<think>", "</think>"})
"""Control tokens of free text: Thinking models begin with a thought."""

_LETTERS = BEGIN.encode()


class FreeTextConstraint:
    """A constraint under which everything may follow but control tokens."""

    complete = True

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._eos = list(vocabulary.eos)
        control = {token for name, token in vocabulary.control.items() if name not in _THOUGHT}
        self._never = sorted(control.difference(self._eos))
        self._ended = False

    def mask(self, scores: npt.NDArray[np.float32]) -> None:
        """Sets what may not follow to minus infinity, in place. ``scores [vocab_size]``."""
        if self._ended:
            ends = scores[self._eos]
            scores[:] = -np.inf
            scores[self._eos] = ends
        else:
            scores[self._never] = -np.inf

    def accept(self, token: int) -> None:
        """Takes the token that was chosen. Raises OptionError for one that may not follow."""
        if token in self._never or (self._ended and token not in self._eos):
            raise OptionError(f"token {token} may not follow in a text")
        self._ended = token in self._eos

    def forced(self) -> list[int]:
        """None: there is always a choice."""
        return []


class OptionalToolCallsConstraint:
    """A constraint under which an answer begins as text or as a schema's JSON, or ends in calls.

    Free text may come before a call, JSON may not.
    """

    def __init__(
        self, before: GrammarConstraint | FreeTextConstraint, calls: GrammarConstraint, vocabulary: Vocabulary
    ) -> None:
        self._before = before
        self._calls = calls
        self._vocabulary = vocabulary
        self._begin = vocabulary.control[BEGIN]
        self._spellings = vocabulary.spelling(_LETTERS)
        self._spelled = 0  # letters of the mark that stand at the end of the text
        self._may_call = True
        self._calling = False

    @property
    def complete(self) -> bool:
        """Whether the answer so far is whole; it may go on."""
        return self._calls.complete if self._calling else self._before.complete

    def mask(self, scores: npt.NDArray[np.float32]) -> None:
        """Sets what may not follow to minus infinity, in place. ``scores [vocab_size]``. Raises OptionError if nothing
        may follow.
        """
        if self._calling:
            self._calls.mask(scores)
            return
        call = scores[self._begin]
        self._before.mask(scores)
        scores[self._spellings[self._spelled]] = -np.inf
        if self._may_call:
            scores[self._begin] = call
        elif self._spelled and not np.isfinite(scores).any():
            raise OptionError(f"the answer cannot go on: its schema asks for the letters {BEGIN}")

    def accept(self, token: int) -> None:
        """Takes the token that was chosen. Raises OptionError for one that may not follow."""
        if self._calling:
            self._calls.accept(token)
        elif self._may_call and token == self._begin:
            self._calls.accept(token)
            self._calling = True
        else:
            spelled = self._with(token, self._spelled)
            if spelled == len(_LETTERS):
                raise OptionError(f"token {token} may not follow: it is not the model's own {BEGIN}")
            self._before.accept(token)
            self._spelled = spelled
            self._may_call = isinstance(self._before, FreeTextConstraint) and token not in self._vocabulary.eos

    def forced(self) -> list[int]:
        """The tokens that must come next, none if there is a choice."""
        if self._calling:
            return self._calls.forced()
        return [] if self._may_call else self._not_spelling(self._before.forced())

    def _not_spelling(self, tokens: Sequence[int]) -> list[int]:
        """Those before the one that would bring the mark to its end."""
        spelled = self._spelled
        for index, token in enumerate(tokens):
            spelled = self._with(token, spelled)
            if spelled == len(_LETTERS):
                return list(tokens[:index])
        return list(tokens)

    def _with(self, token: int, spelled: int) -> int:
        """How many letters of the mark stand at the end when ``token`` has come; all if they are somewhere in it."""
        text = _LETTERS[:spelled] + self._vocabulary.tokens().decode_bytes([token])
        if _LETTERS in text:
            return len(_LETTERS)
        return max(there for there in range(len(_LETTERS)) if text.endswith(_LETTERS[:there]))


@dataclass(frozen=True)
class OptionalToolCallsGrammar:
    """What an answer looks like in which tools may be called: ``before`` if they are not, None for free text."""

    before: Grammar | None
    calls: Grammar
    vocabulary: Vocabulary

    def constraint(self) -> OptionalToolCallsConstraint:
        """What may follow in one answer, from its beginning."""
        before = self.before.constraint() if self.before else FreeTextConstraint(self.vocabulary)
        return OptionalToolCallsConstraint(before, self.calls.constraint(), self.vocabulary)


@dataclass(frozen=True)
class NoToolCallsGrammar:
    """What an answer looks like in which the tools that the prompt describes must not be called: free text."""

    vocabulary: Vocabulary

    def constraint(self) -> FreeTextConstraint:
        """What may follow in one answer, from its beginning."""
        return FreeTextConstraint(self.vocabulary)


AnswerGrammar: TypeAlias = Grammar | OptionalToolCallsGrammar | NoToolCallsGrammar


def compile_answer(
    schema: Mapping[str, object] | bool | str | None,
    tools: Sequence[Tool],
    choice: ToolChoice,
    vocabulary: Vocabulary,
) -> AnswerGrammar | None:
    """What an answer must look like under a schema (None: there is none) and with tools; None if it is free.

    A call that must be made comes in place of the schema's JSON. Raises SchemaError as `compile_schema` raises
    OptionError, and ToolError for tools, parameters and a choice that are wrong or that this model cannot call.
    """
    with _as(ToolError):
        parameters = described(tools, choice)
    with _as(SchemaError):
        before = None if schema is None else compile_schema(schema, vocabulary)
    if not parameters:
        return before
    if choice.mode == "none":
        return before or NoToolCallsGrammar(vocabulary)
    named = parameters if choice.name is None else {choice.name: parameters[choice.name]}
    with _as(ToolError):
        calls = _compile_calls(named, choice.parallel, vocabulary)
    return calls if choice.mode == "required" else OptionalToolCallsGrammar(before, calls, vocabulary)


@contextmanager
def _as(kind: type[OptionError]) -> Iterator[None]:
    """What is wrong in this block is wrong with the schema, or with the tools."""
    try:
        yield
    except OptionError as error:
        raise kind(error.message, error.because) from error


def _compile_calls(tools: Mapping[str, Parameters], parallel: bool, vocabulary: Vocabulary) -> Grammar:
    """The grammar of one call or several of these tools, and of nothing else."""
    vocabulary.tokens()
    if BEGIN not in vocabulary.control or END not in vocabulary.control:
        raise OptionError("this model has no tool calls")
    begin, end = vocabulary.control[BEGIN], vocabulary.control[END]
    arguments = {name: _arguments(name, parameters) for name, parameters in tools.items()}
    calls = [f"call_{index}" for index in range(len(arguments))]
    further = f' ("\\n" call){{0,{MAX_CALLS - 1}}}' if parallel else ""
    rules = [
        f"start: call{further}",
        f"call: <[{begin}]> ({' | '.join(calls)}) <[{end}]>",
    ]
    for rule, (name, schema) in zip(calls, arguments.items(), strict=True):
        written = json.dumps({"x-guidance": WRITING, **schema})
        opening, closing = f'\n{{"name": "{name}", "arguments": ', "}\n"
        rules.append(f"{rule}: {json.dumps(opening)} %json {written} {json.dumps(closing)}")
    source = "\n".join(rules)
    risky = len(source) > SAFE_BYTES or any(is_risky(schema) for schema in arguments.values())
    marks = frozenset({begin, end})
    return compile_grammar(source, "the schema of the tools' parameters", vocabulary, risky=risky, marks=marks)


def _arguments(name: str, parameters: Parameters) -> Schema:
    """The schema of a tool's arguments as llguidance is to see it: always an object."""
    try:
        schema = cast("Schema", checked(parameters))
    except OptionError as error:
        raise in_parameters(name, error) from error
    types = schema.get("type", "object")
    if "object" not in (types if isinstance(types, list) else [types]):
        raise OptionError(f"the parameters of the tool '{name}' describe no object")
    return {**schema, "type": "object"}
