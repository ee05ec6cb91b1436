"""Removes property patterns that match only named properties.

llguidance offers a further property as long as there is a pattern, and then finds no name for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from vlrun.structured.schema_refs import Schema

if TYPE_CHECKING:
    from llguidance import LLTokenizer

PROBE_FUEL = 100_000
"""Regex steps of one probe."""
_ANCHORED = re.compile(r"\^(?P<body>.*(?<!\\)(?:\\\\)*)\$", re.DOTALL)


def fold_exhausted_patterns(schema: Schema, patterns: Sequence[str]) -> None:
    """Remove patterns that match only named or required properties, in place, and apply them to these properties.

    Args:
        schema: A checked schema with ``patternProperties``, translated for llguidance.
        patterns: The same patterns before translation, in the same order.
    """
    properties = cast("Schema", schema.get("properties", {}))
    named = dict.fromkeys([*properties, *map(str, cast("list[object]", schema.get("required", [])))])
    translated = cast("Schema", schema["patternProperties"])
    for pattern, (name, member) in zip(patterns, list(translated.items()), strict=False):
        matching = [known for known in named if re.search(pattern, known)]
        if not matching or not _matches_only(name, tuple(matching)):
            continue
        del translated[name]
        for known in matching:
            own = properties.get(known, member)
            properties[known] = member if own == member else {"allOf": [own, member]}
        schema["properties"] = properties


def _matches_only(pattern: str, names: tuple[str, ...]) -> bool:
    anchored = _ANCHORED.fullmatch(pattern)
    if anchored is None:
        return False
    from llguidance import LLMatcher, LLParserLimits

    others = " | ".join(json.dumps(name, ensure_ascii=False) for name in names)
    grammar = f"start: NAME\nNAME: /{anchored['body']}/ & ~({others})"
    limits = LLParserLimits(initial_lexer_fuel=PROBE_FUEL, step_lexer_fuel=PROBE_FUEL, verbose_errors=False)
    matcher = LLMatcher(_byte_tokenizer(), grammar, log_level=0, limits=limits)
    if matcher.is_error():  # compiling the schema tells the reason
        return False
    matcher.compute_bitmask()
    return matcher.get_error().startswith("NoExtensionBias")  # no name is left


@lru_cache(maxsize=1)
def _byte_tokenizer() -> LLTokenizer:
    from llguidance import LLTokenizer

    return LLTokenizer("byte")
