"""JSON schemas and other grammars, compiled by llguidance into constraints on the next token.

llguidance is imported on first use.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from vlrun.errors import DamagedModel, OptionError, panics_as
from vlrun.prompt.text_encoder import TextEncoder
from vlrun.structured.answer_checks import NO_CHECKS, AnswerChecks
from vlrun.structured.json_style import JSON_STYLE
from vlrun.structured.schema_check import check_schema
from vlrun.structured.schema_refs import is_risky
from vlrun.structured.trial_compile import try_compile
from vlrun.structured.unique_names import UniqueNames
from vlrun.structured.vocabulary import load_vocabulary
from vlrun.types.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# Limits on llguidance's work, several times lower than its defaults. Speeds are its authors' figures.
STEP_FUEL = 100_000  # regex steps for one mask: 7 ms at 14,000 a ms
STEP_ITEMS = 20_000  # parser items for one mask: 1 ms at 20,000 a ms
LEXER_STATES = 50_000  # per answer: at most 100 MB at 2 kB each
SAFE_BYTES = 4096  # schemas up to this size need no trial unless they are risky
MAX_CACHED = 16  # grammars kept for later requests
MAX_CACHED_CHARACTERS = 512 * 1024  # of their sources, which grow up to 70 times. The latest is always kept.

_llguidance = panics_as(OptionError, "the schema is not supported: it crashes the library that compiles schemas")
"""For all that calls llguidance: a panic in the engine's thread would end it."""


class GrammarTokenizer:
    """The model's tokenizer for llguidance, created on first use, and a cache of compiled grammars.

    For 151,000 tokens, creation takes 0.6 s of processor time and 150 MB.

    Args:
        tokenizer: The model's tokenizer.
        eos: Ids that end an answer.
        vocab_size: Number of token ids.
        fingerprint: SHA-256 of tokenizer.json; None keeps nothing on disk.

    Attributes:
        control: Ids of the control tokens by name.
        tokens: The bytes of all tokens; empty until `load`.
    """

    def __init__(
        self, tokenizer: Tokenizer, eos: Sequence[int], vocab_size: int, fingerprint: str | None = None
    ) -> None:
        self.eos = list(eos)
        self.vocab_size = vocab_size
        added = tokenizer.get_added_tokens_decoder()
        self.control: Mapping[str, int] = {one.content: token for token, one in added.items() if token < vocab_size}
        self._source = tokenizer
        self._fingerprint = fingerprint
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self.tokens: Sequence[bytes] = ()
        self._grammars: OrderedDict[str, Grammar] = OrderedDict()
        self._quoted: list[tuple[int, bytes]] | None = None
        self._completing: dict[bytes, list[IntArray]] = {}

    def load(self, *, fast_masks: bool = False) -> LLTokenizer:
        """Return llguidance's tokenizer.

        Args:
            fast_masks: Whether the first call spends 0.5 s more, so that a mask takes 0.1 instead of 0.4 ms.

        Raises:
            DamagedModel: It cannot be created.
        """
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = self._create(fast_masks)
            return self._tokenizer

    @_llguidance
    def completing_tokens(self, word: bytes) -> list[IntArray]:
        """Return the ids that complete ``word`` as text; entry i holds those that follow its first i bytes."""
        self.load()
        with self._lock:
            if word not in self._completing:
                last = [(token, text) for token, text in enumerate(self.tokens) if word[-1:] in text]
                self._completing[word] = [
                    np.array([token for token, text in last if word in word[:done] + text], np.int64)
                    for done in range(len(word))
                ]
            return self._completing[word]

    def beginning_with(self, text: bytes) -> list[int]:
        """Return the tokens that begin with a text, which contains a quotation mark."""
        if self._quoted is None:
            self._quoted = [(token, one) for token, one in enumerate(self.tokens) if b'"' in one]
        return [token for token, one in self._quoted if one.startswith(text)]

    def cached(self, source: str) -> Grammar | None:
        """Return the cached grammar of a source, if any."""
        with self._lock:
            if source in self._grammars:
                self._grammars.move_to_end(source)
            return self._grammars.get(source)

    def cache(self, source: str, grammar: Grammar) -> None:
        """Cache a grammar, and evict the oldest ones beyond the limits."""
        with self._lock:
            self._grammars[source] = grammar
            while len(self._grammars) > (MAX_CACHED if sum(map(len, self._grammars)) <= MAX_CACHED_CHARACTERS else 1):
                self._grammars.popitem(last=False)

    @panics_as(DamagedModel, "the model's tokenizer does not support schemas")
    def _create(self, fast_masks: bool) -> LLTokenizer:
        from llguidance import LLTokenizer, TokenizerWrapper

        try:
            self.tokens = load_vocabulary(self._source, self.vocab_size, self._fingerprint)
            adapter = _TokenizerAdapter(self._source, self.tokens, self.eos, sorted(self.control.values()))
            # The slices classify the vocabulary, for masks.
            slices = LLTokenizer.json_slices() if fast_masks else []
            return LLTokenizer(TokenizerWrapper(adapter), n_vocab=self.vocab_size, eos_token=self.eos, slices=slices)
        except Exception as error:  # llguidance raises many types
            raise DamagedModel(f"the model's tokenizer does not support schemas: {_first_line(error)}") from error


class _TokenizerAdapter:
    """What llguidance's ``TokenizerWrapper`` needs. Control tokens are special, so that no text contains them."""

    bos_token_id = None

    def __init__(
        self, tokenizer: Tokenizer, tokens: Sequence[bytes], eos: Sequence[int], control: Sequence[int]
    ) -> None:
        self.tokens = tokens
        self.eos_token_id = eos[0]
        self.special_token_ids = control
        self._encoder = TextEncoder(tokenizer)

    def __call__(self, text: str) -> list[int]:
        """Tokenize a text that the grammar forces. Raises TypeError for bytes: the wrapper then passes no bytes."""
        if not isinstance(text, str):
            raise TypeError(text)
        (ids,) = self._encoder.encode([text])
        if b"".join(self.tokens[token] for token in ids) == text.encode():
            return ids
        return []


class GrammarConstraint:
    """The state of one answer under a grammar. Not thread-safe.

    Every method raises OptionError if the grammar proves too complex during the answer.
    """

    def __init__(self, grammar: Grammar) -> None:
        self._matcher = grammar.matcher.deep_copy()
        self._eos = grammar.tokenizer.eos
        self._control = frozenset(grammar.tokenizer.control.values())
        self._forbidden = self._control - grammar.control
        self._permitted = np.ones(grammar.tokenizer.vocab_size, np.bool_)
        self._permitted[list(self._forbidden.difference(self._eos))] = False
        self._ended = False
        self._tokenizer = grammar.tokenizer
        self._names = UniqueNames()

    @property
    @_llguidance
    def complete(self) -> bool:
        """Whether the answer is complete. It may still continue, as a number can."""
        return self._ended or bool(self._matcher.is_accepting())

    @_llguidance
    def mask(self, scores: FloatArray) -> None:
        """Set the ``scores [vocab_size]`` of forbidden tokens to minus infinity, in place."""
        if self._only_end_follows():
            allow_only(scores, self._eos)
            return
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        allowed = np.unpackbits(packed, count=len(self._permitted), bitorder="little").view(np.bool_)
        np.copyto(scores, -np.inf, where=~(allowed & self._permitted))
        if repeating := [token for text in self._names.forbidden() for token in self._tokenizer.beginning_with(text)]:
            kept = scores[repeating]
            scores[repeating] = -np.inf
            if not np.isfinite(scores).any():
                scores[repeating] = kept

    @_llguidance
    def accept(self, token: int) -> None:
        """Advance by the sampled token. Raises OptionError for a forbidden one."""
        if token in self._eos and self.complete:
            self._ended = True
        elif self._ended or token in self._forbidden or self._matcher.try_consume_tokens([token]) == 0:
            self._check()
            raise OptionError(f"token {token} may not follow under the schema")
        elif token in self._control:
            self._names.reset()
        else:
            self._names.feed(self._tokenizer.tokens[token])

    @_llguidance
    def forced(self) -> list[int]:
        """Return the tokens that must come next; empty if there is a choice."""
        if self._only_end_follows():
            return []
        tokens = self._matcher.compute_ff_tokens()
        self._check()
        return list(itertools.takewhile(lambda token: token not in self._forbidden, tokens))

    def _only_end_follows(self) -> bool:
        return self._ended or (bool(self._matcher.is_stopped()) and not self._matcher.is_error())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise OptionError("the answer cannot continue under the schema", _first_line(self._matcher.get_error()))


@dataclass(frozen=True, eq=False)
class Grammar:
    """A compiled grammar, reusable for any number of answers.

    Attributes:
        matcher: llguidance's initial state.
        tokenizer: The model's tokenizer.
        control: The control tokens that it allows.
        checks: What else an answer is checked for.
    """

    matcher: LLMatcher
    tokenizer: GrammarTokenizer
    control: frozenset[int]
    checks: AnswerChecks = NO_CHECKS

    def constraint(self) -> GrammarConstraint:
        """Return the constraint of a new answer."""
        return GrammarConstraint(self)


def allow_only(scores: FloatArray, tokens: Sequence[int]) -> None:
    """Set the scores of all other tokens to minus infinity, in place."""
    kept = scores[tokens]
    scores[:] = -np.inf
    scores[tokens] = kept


@_llguidance
def compile_schema(schema: Mapping[str, object] | bool | str, tokenizer: GrammarTokenizer) -> Grammar:
    """Compile a JSON schema (or its text) in less than 2 s, apart from creating the tokenizer.

    Raises:
        OptionError: The schema is invalid, too large, allows no answer, or uses an unsupported keyword.
    """
    checked = check_schema(schema)
    text = json.dumps({} if checked.grammar is True else checked.grammar)
    from llguidance import LLMatcher

    source = LLMatcher.grammar_from_json_schema(text, overrides=JSON_STYLE)  # type: ignore[arg-type]
    risky = len(text) > SAFE_BYTES or is_risky(checked.grammar)
    grammar = compile_grammar(source, "the schema", tokenizer, risky=risky)
    if not (checked.validator or checked.notes):
        return grammar
    return replace(grammar, checks=AnswerChecks(checked.validator, notes=checked.notes))


@_llguidance
def compile_grammar(
    source: str, subject: str, tokenizer: GrammarTokenizer, *, risky: bool, control: frozenset[int] = frozenset()
) -> Grammar:
    """Compile a grammar in llguidance's notation.

    Args:
        source: The grammar.
        subject: Its name in error messages.
        tokenizer: The model's tokenizer, which caches the result.
        risky: Whether compiling may take long; a child process then tries it first.
        control: Control tokens in the grammar.

    Raises:
        OptionError: It does not compile within the limits, or allows no answer.
    """
    if cached := tokenizer.cached(source):
        return cached
    from llguidance import LLMatcher, LLParserLimits

    # A trial costs the start of a process; ordinary schemas compile in milliseconds.
    if risky and (reason := try_compile(source)):
        raise OptionError(f"{subject} is not supported", _first_line(reason))
    limits = LLParserLimits(
        step_lexer_fuel=STEP_FUEL, step_max_items=STEP_ITEMS, max_lexer_states=LEXER_STATES, verbose_errors=False
    )
    matcher = LLMatcher(tokenizer.load(), source, log_level=0, limits=limits)
    if matcher.is_error():
        raise OptionError(f"{subject} is not supported", _first_line(matcher.get_error()))
    grammar = Grammar(matcher, tokenizer, control)
    scores = np.zeros(tokenizer.vocab_size, np.float32)
    grammar.constraint().mask(scores)
    if not np.isfinite(scores).any():
        raise OptionError(f"{subject} allows no answer")
    tokenizer.cache(source, grammar)
    return grammar


def _first_line(message: object) -> str:
    return (str(message).splitlines() or ["unknown"])[0][:200]
