"""Matches translated patterns in linear time: Python's re takes exponential time for some patterns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from vlrun.errors import OptionError, panics_as
from vlrun.structured.json_style import JSON_STYLE

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_llguidance = panics_as(OptionError, "the schema is not supported: it crashes the library that compiles schemas")

PROBE_FUEL = 100_000
"""Regex steps of one probe."""


class PatternMatcher:
    """Matches a translated pattern anywhere in texts without control characters.

    Raises:
        OptionError: The pattern is too complex.
    """

    def __init__(self, pattern: str) -> None:
        from llguidance import LLMatcher

        schema = json.dumps({"type": "string", "pattern": pattern})
        self._matcher = _probe(LLMatcher.grammar_from_json_schema(schema, overrides=JSON_STYLE))  # type: ignore[arg-type]
        self._check()

    @_llguidance
    def matches(self, text: str) -> bool:
        """Return whether the pattern matches. Raises OptionError if it proves too complex."""
        written = list(json.dumps(text, ensure_ascii=False).encode())
        matched = self._matcher.try_consume_tokens(written) == len(written) and self._matcher.is_accepting()
        self._check()
        self._matcher.reset()
        return bool(matched)

    def _check(self) -> None:
        if self._matcher.is_error():
            raise OptionError("the schema has a pattern that is not supported", self._matcher.get_error()[:200])


def has_other_match(body: str, names: Sequence[str]) -> bool:
    """Return whether a translated pattern without anchors matches another whole text than these."""
    others = " | ".join(json.dumps(name, ensure_ascii=False) for name in names)
    matcher = _probe(f"start: NAME\nNAME: /{body}/ & ~({others})")
    if matcher.is_error():  # compiling the schema tells the reason
        return True
    matcher.compute_bitmask()
    return not matcher.get_error().startswith("NoExtensionBias")  # no name is left


def _probe(grammar: str) -> LLMatcher:
    """Return a matcher of bytes with limits."""
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(initial_lexer_fuel=PROBE_FUEL, step_lexer_fuel=PROBE_FUEL, verbose_errors=False)
    return LLMatcher(_byte_tokenizer(), grammar, log_level=0, limits=limits)


@lru_cache(maxsize=1)
def _byte_tokenizer() -> LLTokenizer:
    from llguidance import LLTokenizer

    return LLTokenizer("byte")
