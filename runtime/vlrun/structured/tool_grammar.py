"""Grammars of answers that may or must call tools: free text or a schema's JSON, and only valid calls.

Calls follow the family's format. A call begins with the model's control token and never with the same characters as
text, so that no prompt can make the model write an unchecked call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

import numpy as np

from vlrun.errors import OptionError, SchemaError, ToolError, panics_as
from vlrun.models.family import ModelFamily, ToolCallFormat
from vlrun.structured.answer_checks import NO_CHECKS, AnswerChecks
from vlrun.structured.grammar import (
    SAFE_BYTES,
    Grammar,
    GrammarTokenizer,
    allow_only,
    compile_grammar,
    compile_schema,
)
from vlrun.structured.json_style import JSON_STYLE
from vlrun.structured.schema_check import CheckedSchema, check_schema
from vlrun.structured.schema_refs import Schema, is_risky, types_of
from vlrun.structured.tool_check import Parameters, check_tools, parameters_error, strict_tools
from vlrun.types.arrays import FloatArray
from vlrun.types.turn import Tool, ToolChoice

MAX_CALLS = 16
"""Calls in one answer."""
ANY_OBJECT = CheckedSchema({"type": "object"}, None)


class FreeTextConstraint:
    """Allows all tokens but control tokens."""

    complete = True

    def __init__(self, grammar: FreeTextGrammar) -> None:
        self._eos = grammar.tokenizer.eos
        control = {token for name, token in grammar.tokenizer.control.items() if name not in grammar.reasoning_tokens}
        self._forbidden = sorted(control.difference(self._eos))
        self._ended = False

    def mask(self, scores: FloatArray) -> None:
        """Set the ``scores [vocab_size]`` of forbidden tokens to minus infinity, in place."""
        if self._ended:
            allow_only(scores, self._eos)
        else:
            scores[self._forbidden] = -np.inf

    def accept(self, token: int) -> None:
        """Advance by the sampled token. Raises OptionError for a forbidden one."""
        if token in self._forbidden or (self._ended and token not in self._eos):
            raise OptionError(f"token {token} may not follow in a text")
        self._ended = token in self._eos

    def forced(self) -> list[int]:
        """Return an empty list: there is always a choice."""
        return []


class OptionalToolCallsConstraint:
    """The state of an answer of free text with optional calls, or of either a schema's JSON or calls."""

    def __init__(self, grammar: OptionalToolCallsGrammar) -> None:
        self._before, self._calls = grammar.before.constraint(), grammar.calls.constraint()
        self._tokenizer = grammar.calls.tokenizer
        self._begin = grammar.begin.encode()
        self._begin_id = self._tokenizer.control[grammar.begin]
        self._completing = self._tokenizer.completing_tokens(self._begin)
        self._matched = 0  # bytes of the begin token that end the answer as text
        self._may_call = True
        self._in_calls = False

    @property
    def complete(self) -> bool:
        """Whether the answer is complete. It may still continue."""
        return self._calls.complete if self._in_calls else self._before.complete

    def mask(self, scores: FloatArray) -> None:
        """Set the ``scores [vocab_size]`` of forbidden tokens to minus infinity, in place.

        Raises OptionError if all are forbidden.
        """
        if self._in_calls:
            self._calls.mask(scores)
            return
        begin_score = scores[self._begin_id]
        self._before.mask(scores)
        scores[self._completing[self._matched]] = -np.inf
        if self._may_call:
            scores[self._begin_id] = begin_score
        elif self._matched and not np.isfinite(scores).any():
            raise OptionError(f"the answer cannot continue: its schema asks for the text {self._begin.decode()}")

    def accept(self, token: int) -> None:
        """Advance by the sampled token. Raises OptionError for a forbidden one."""
        if self._in_calls:
            self._calls.accept(token)
        elif self._may_call and token == self._begin_id:
            self._calls.accept(token)
            self._in_calls = True
        else:
            matched = self._match(token, self._matched)
            if matched == len(self._begin):
                raise OptionError(f"token {token} may not follow: it is not the control token {self._begin.decode()}")
            self._before.accept(token)
            self._matched = matched
            self._may_call = isinstance(self._before, FreeTextConstraint) and token not in self._tokenizer.eos

    def forced(self) -> list[int]:
        """Return the tokens that must come next; empty if there is a choice."""
        if self._in_calls:
            return self._calls.forced()
        tokens, matched = [] if self._may_call else self._before.forced(), self._matched
        for index, token in enumerate(tokens):
            matched = self._match(token, matched)
            if matched == len(self._begin):
                return tokens[:index]
        return tokens

    @panics_as(OptionError, "the answer cannot continue: the library that checks it crashed")
    def _match(self, token: int, matched: int) -> int:
        """Count the bytes of the begin token that end the answer after ``token``; all if it occurs anywhere."""
        text = self._begin[:matched] + self._tokenizer.load().decode_bytes([token])
        if self._begin in text:
            return len(self._begin)
        return max(length for length in range(len(self._begin)) if text.endswith(self._begin[:length]))


@dataclass(frozen=True)
class FreeTextGrammar:
    """Free text, for prompts with tools that must not be called."""

    tokenizer: GrammarTokenizer
    reasoning_tokens: frozenset[str]
    checks: AnswerChecks = NO_CHECKS

    def constraint(self) -> FreeTextConstraint:
        """Return the constraint of a new answer."""
        return FreeTextConstraint(self)


@dataclass(frozen=True)
class OptionalToolCallsGrammar:
    """``before`` or tool calls; both if ``before`` is free text."""

    before: Grammar | FreeTextGrammar
    calls: Grammar
    begin: str

    @property
    def checks(self) -> AnswerChecks:
        """What an answer is checked for."""
        return replace(self.calls.checks, schema=self.before.checks.schema)

    def constraint(self) -> OptionalToolCallsConstraint:
        """Return the constraint of a new answer."""
        return OptionalToolCallsConstraint(self)


AnswerGrammar: TypeAlias = Grammar | OptionalToolCallsGrammar | FreeTextGrammar


def compile_answer(
    schema: Mapping[str, object] | bool | str | None,
    tools: Sequence[Tool],
    choice: ToolChoice,
    tokenizer: GrammarTokenizer,
    family: ModelFamily,
) -> AnswerGrammar | None:
    """Compile the grammar of an answer; None if it is unconstrained. A required call replaces the schema's JSON.

    Raises:
        SchemaError: As OptionError of `compile_schema`.
        ToolError: A tool, its parameters or the choice is invalid, or the model has no tool calls.
    """
    with _errors_as(ToolError):
        parameters = check_tools(tools, choice)
    with _errors_as(SchemaError):
        json_grammar = None if schema is None else compile_schema(schema, tokenizer)
    if not parameters:
        return json_grammar
    before = json_grammar or FreeTextGrammar(tokenizer, frozenset({family.reasoning.begin, family.reasoning.end}))
    if choice.mode == "none":
        return before
    callable_tools = parameters if choice.name is None else {choice.name: parameters[choice.name]}
    strict = {name for name in callable_tools if choice.mode == "required" or name in strict_tools(tools)}
    with _errors_as(ToolError):
        calls = _compile_calls(callable_tools, strict, choice.parallel, tokenizer, family.tool_calls)
    return calls if choice.mode == "required" else OptionalToolCallsGrammar(before, calls, family.tool_calls.begin)


@contextmanager
def _errors_as(kind: type[OptionError]) -> Iterator[None]:
    try:
        yield
    except OptionError as error:
        raise kind(error.message, error.because) from error


def _compile_calls(
    tools: Mapping[str, Parameters],
    strict: Set[str],
    parallel: bool,
    tokenizer: GrammarTokenizer,
    call_format: ToolCallFormat,
) -> Grammar:
    """Compile the grammar of one or more calls of these tools.

    The arguments of a tool that is not strict are any object if its schema is not supported; a note then says so.
    """
    tokenizer.load()
    if not {call_format.begin, call_format.end} <= tokenizer.control.keys():
        raise OptionError("this model has no tool calls")
    arguments: dict[str, CheckedSchema] = {}
    reasons: dict[str, str] = {}
    for name, parameters in tools.items():
        try:
            arguments[name] = _arguments(name, parameters)
        except OptionError as error:
            if name in strict:
                raise
            arguments[name], reasons[name] = ANY_OBJECT, error.message
    try:
        grammar = _compile_arguments(arguments, parallel, tokenizer, call_format)
    except OptionError as error:
        complex_ones = [name for name, one in arguments.items() if name not in strict and _is_complex(one.grammar)]
        loose = complex_ones or [name for name in arguments if name not in strict]
        if not loose:
            raise
        arguments |= dict.fromkeys(loose, ANY_OBJECT)
        reasons |= {name: parameters_error(name, error).message for name in loose}
        grammar = _compile_arguments(arguments, parallel, tokenizer, call_format)
    loosened = (f"{reason}: its arguments may be any object" for reason in reasons.values())
    notes = (*loosened, *dict.fromkeys(note for checked in arguments.values() for note in checked.notes))
    validators = {name: checked.validator for name, checked in arguments.items() if checked.validator}
    return replace(grammar, checks=AnswerChecks(None, validators, frozenset(tools.keys() - strict), notes))


def _compile_arguments(
    arguments: Mapping[str, CheckedSchema], parallel: bool, tokenizer: GrammarTokenizer, call_format: ToolCallFormat
) -> Grammar:
    begin, end = tokenizer.control[call_format.begin], tokenizer.control[call_format.end]
    calls = [f"call_{index}" for index in range(len(arguments))]
    more = f" ({json.dumps(call_format.separator)} call){{0,{MAX_CALLS - 1}}}" if parallel else ""
    rules = [f"start: call{more}", f"call: <[{begin}]> ({' | '.join(calls)}) <[{end}]>"]
    for rule, (name, checked) in zip(calls, arguments.items(), strict=True):
        before = json.dumps(f"{call_format.before_name}{name}{call_format.before_arguments}")
        styled = json.dumps({"x-guidance": JSON_STYLE, **cast("Schema", checked.grammar)})
        rules.append(f"{rule}: {before} %json {styled} {json.dumps(call_format.after_arguments)}")
    source = "\n".join(rules)
    risky = len(source) > SAFE_BYTES or any(is_risky(checked.grammar) for checked in arguments.values())
    control = frozenset({begin, end})
    return compile_grammar(source, "the schema of the tools' parameters", tokenizer, risky=risky, control=control)


def _is_complex(schema: Schema | bool) -> bool:
    return is_risky(schema) or len(json.dumps(schema)) > SAFE_BYTES


def _arguments(name: str, parameters: Parameters) -> CheckedSchema:
    """Check the schema of a tool's arguments, which must be an object."""
    try:
        checked = check_schema(parameters)
    except OptionError as error:
        raise parameters_error(name, error) from error
    schema = cast("Schema", checked.grammar)
    if "object" not in types_of(schema, "object"):
        raise OptionError(f"the parameters of the tool '{name}' do not describe an object")
    return replace(checked, grammar={**schema, "type": "object"})
