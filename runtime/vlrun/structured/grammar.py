"""Answers that obey a JSON schema, or another grammar: which tokens may follow, by llguidance.

Knows schemas, the model's vocabulary and rows of scores; knows neither prompts nor devices. llguidance is imported
where the first schema is used. An answer is JSON as ``json.dumps`` writes it: ``", "`` and ``": "``, no other white
space, and one spelling for each character (no hexadecimal ones, so that no property can be named in two ways).
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from vlrun.errors import DamagedModel, OptionError
from vlrun.structured.schema_check import checked
from vlrun.structured.schema_refs import is_risky
from vlrun.structured.trial_compile import try_out

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

TokenIds: TypeAlias = npt.NDArray[np.int64]

# Bounds of llguidance's own work; its defaults allow several times as much. Speeds are its authors' figures.
STEP_FUEL = 100_000
"""Regex steps for one mask: 7 ms at 14,000 a ms."""
STEP_ITEMS = 20_000
"""Parser items for one mask: 1 ms at 20,000 a ms."""
LEXER_STATES = 50_000
"""States of the lexer in one answer: at most 100 MB at 2 kB each."""

SAFE_BYTES = 4096
"""Schemas up to here compile without a trial, if nothing in them is risky."""

MOST_KNOWN = 16
"""Grammars that are kept for the next question."""
MOST_KNOWN_LETTERS = 512 * 1024
"""Of their sources together, which take up to 70 times as much when compiled; the last one is always kept."""

WRITING: Mapping[str, object] = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "json_allowed_escapes": 'nrbtf\\"',
}


class _Added(msgspec.Struct):
    """One of the tokens that stand beside the text's own."""

    id: int
    content: str


class _TokenizerFile(msgspec.Struct):
    """What is read here of a tokenizer.json."""

    added_tokens: list[_Added] = []


class Vocabulary:
    """The model's tokens as llguidance wants them, made when first used and then kept.

    ``tokenizer``: path of the model's tokenizer.json, or its text. ``eos``: the ids that end an answer. ``vocab_size``:
    ids from there on do not exist. Making it takes 1 s and 150 MB for 151,000 tokens, and holds Python's lock.
    """

    def __init__(self, tokenizer: Path | str, eos: Sequence[int], vocab_size: int) -> None:
        self._source = str(tokenizer)
        self.eos = tuple(eos)
        self.vocab_size = vocab_size
        self._lock = threading.Lock()
        self._made: LLTokenizer | None = None
        self._grammars: OrderedDict[str, Grammar] = OrderedDict()
        self._spellings: dict[bytes, tuple[TokenIds, ...]] = {}
        self.control: Mapping[str, int] = {}
        """Control tokens, which are no text even where their letters would be, by name; known once made."""

    def tokens(self) -> LLTokenizer:
        """The tokenizer as llguidance has it. Raises DamagedModel if the model's does not fit it."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def spelling(self, mark: bytes) -> tuple[TokenIds, ...]:
        """The ids that bring ``mark`` to its end in letters: at i, if its first i bytes are there. Found in 0.1 s for
        151,000 tokens, and then kept.
        """
        tokens = self.tokens()
        with self._lock:
            if mark not in self._spellings:
                spelled = ((token, tokens.decode_bytes([token])) for token in range(self.vocab_size))
                last = [(token, letters) for token, letters in spelled if mark[-1:] in letters]
                self._spellings[mark] = tuple(
                    np.array([token for token, letters in last if mark in mark[:there] + letters], np.int64)
                    for there in range(len(mark))
                )
            return self._spellings[mark]

    def known(self, source: str) -> Grammar | None:
        """The grammar of a source that was compiled lately."""
        with self._lock:
            if source in self._grammars:
                self._grammars.move_to_end(source)
            return self._grammars.get(source)

    def remember(self, source: str, grammar: Grammar) -> None:
        """Keep a grammar for the next question with the same source; the oldest of too many is forgotten."""
        with self._lock:
            self._grammars[source] = grammar
            while len(self._grammars) > (MOST_KNOWN if sum(map(len, self._grammars)) <= MOST_KNOWN_LETTERS else 1):
                self._grammars.popitem(last=False)

    def _make(self) -> LLTokenizer:
        from llguidance import LLTokenizer

        try:
            text = self._source if self._source.lstrip().startswith("{") else Path(self._source).read_bytes()
            added = msgspec.json.decode(text, type=_TokenizerFile).added_tokens
            self.control = {token.content: token.id for token in added if token.id < self.vocab_size}
            return LLTokenizer(self._source, n_vocab=self.vocab_size, eos_token=list(self.eos))
        except Exception as error:  # the library raises what its parts raise
            raise DamagedModel(f"the model's tokenizer cannot be held to a schema: {_line(error)}") from error


class GrammarConstraint:
    """What may follow in one answer. Used by one thread; `Grammar.constraint` makes one for each answer.

    ``marks``: the control tokens that the grammar itself uses. Every method raises OptionError if the schema turns out
    too complex in the middle of the answer.
    """

    def __init__(self, matcher: LLMatcher, vocabulary: Vocabulary, marks: frozenset[int]) -> None:
        self._matcher = matcher
        self._eos = list(vocabulary.eos)
        self._vocab_size = vocabulary.vocab_size
        self._control = frozenset(vocabulary.control.values()) - marks
        self._known = np.ones(vocabulary.vocab_size, np.bool_)
        self._known[list(self._control - set(vocabulary.eos))] = False
        self._ended = False

    @property
    def complete(self) -> bool:
        """Whether the answer so far is a whole JSON text that obeys the schema; a number may still go on."""
        return self._ended or bool(self._matcher.is_accepting())

    def mask(self, scores: npt.NDArray[np.float32]) -> None:
        """Sets what may not follow to minus infinity, in place. ``scores [vocab_size]``."""
        if self._closed():
            allowed = np.zeros(self._vocab_size, np.bool_)
            allowed[self._eos] = True
        else:
            packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            self._check()
            allowed = np.unpackbits(packed, count=self._vocab_size, bitorder="little").view(np.bool_)
            allowed &= self._known
        np.copyto(scores, -np.inf, where=~allowed)

    def accept(self, token: int) -> None:
        """Takes the token that was chosen. Raises OptionError for one that may not follow."""
        if token in self._eos and self.complete:
            self._ended = True
        elif self._ended or token in self._control or self._matcher.try_consume_tokens([token]) == 0:
            self._check()
            raise OptionError(f"token {token} may not follow under the schema")

    def forced(self) -> list[int]:
        """The tokens that must come next, none if there is a choice."""
        if self._closed():
            return []
        tokens = self._matcher.compute_ff_tokens()
        self._check()
        return list(itertools.takewhile(lambda token: token not in self._control, tokens))

    def _closed(self) -> bool:
        """Whether nothing but the end may follow."""
        return self._ended or (bool(self._matcher.is_stopped()) and not self._matcher.is_error())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise OptionError("the answer cannot go on under the schema", _line(self._matcher.get_error()))


class Grammar:
    """A compiled schema or other grammar, for any number of answers."""

    def __init__(self, matcher: LLMatcher, vocabulary: Vocabulary, marks: frozenset[int]) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._marks = marks

    def constraint(self) -> GrammarConstraint:
        """What may follow in one answer, from its beginning."""
        return GrammarConstraint(self._matcher.deep_copy(), self._vocabulary, self._marks)


def compile_schema(schema: Mapping[str, object] | bool | str, vocabulary: Vocabulary) -> Grammar:
    """The grammar of a JSON schema (mapping, true or false, or JSON text), in less than 2 s, the vocabulary's apart.

    Raises OptionError for a schema that is invalid, asks for what is not honoured, allows no answer, or is too large.
    """
    cleaned = checked(schema)
    if cleaned is False:
        raise OptionError("the schema allows no answer: it is false")
    text = json.dumps({} if cleaned is True else cleaned)
    from llguidance import LLMatcher

    source = LLMatcher.grammar_from_json_schema(text, overrides=WRITING)  # type: ignore[arg-type]
    return compile_grammar(source, "the schema", vocabulary, risky=len(text) > SAFE_BYTES or is_risky(cleaned))


def compile_grammar(
    source: str, subject: str, vocabulary: Vocabulary, *, risky: bool, marks: frozenset[int] = frozenset()
) -> Grammar:
    """The grammar of ``source``, as llguidance writes grammars; ``subject``: what it is called in an error.

    ``risky``: llguidance could be long over it. ``marks``: the control tokens in it. Raises OptionError.
    """
    if known := vocabulary.known(source):
        return known
    from llguidance import LLMatcher, LLParserLimits

    # Ordinary schemas take milliseconds, and are spared the start of a process.
    if risky and (reason := try_out(source)):
        raise OptionError(f"{subject} is not supported", _line(reason))
    limits = LLParserLimits(
        step_lexer_fuel=STEP_FUEL, step_max_items=STEP_ITEMS, max_lexer_states=LEXER_STATES, verbose_errors=False
    )
    matcher = LLMatcher(vocabulary.tokens(), source, log_level=0, limits=limits)
    if matcher.is_error():
        raise OptionError(f"{subject} is not supported", _line(matcher.get_error()))
    grammar = Grammar(matcher, vocabulary, marks)
    first = np.zeros(vocabulary.vocab_size, np.float32)
    grammar.constraint().mask(first)
    if not np.isfinite(first).any():
        raise OptionError(f"{subject} allows no answer")
    vocabulary.remember(source, grammar)
    return grammar


def _line(message: object) -> str:
    """The first line of somebody else's message, not too long."""
    return (str(message).splitlines() or ["unknown"])[0][:200]
