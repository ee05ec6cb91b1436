"""Removes property patterns that match only named properties.

llguidance offers a further property as long as there is a pattern, and then finds no name for it.
"""

from __future__ import annotations

import re
from typing import cast

from vlrun.errors import OptionError
from vlrun.structured.pattern_match import PatternMatcher, has_other_match
from vlrun.structured.schema_refs import Schema

MAX_PAIRS = 5000
"""Patterns times names of one object: each pair is matched."""
_ANCHORED = re.compile(r"\^(?P<body>.*(?<!\\)(?:\\\\)*)\$", re.DOTALL)


def fold_exhausted_patterns(schema: Schema, where: str) -> None:
    """Remove patterns that match only named or required properties, in place, and apply them to these properties.

    Args:
        schema: A checked schema with ``patternProperties``, translated for llguidance.
        where: Its place, for errors.

    Raises:
        OptionError: There are too many patterns and names.
    """
    properties = cast("Schema", schema.get("properties", {}))
    named = dict.fromkeys([*properties, *map(str, cast("list[object]", schema.get("required", [])))])
    patterns = cast("Schema", schema["patternProperties"])
    if len(patterns) * len(named) > MAX_PAIRS:
        raise OptionError(f"the schema has too many property patterns beside named properties at {where}")
    for pattern, member in list(patterns.items()) if named else ():
        matcher = PatternMatcher(pattern)
        matching = [known for known in named if matcher.matches(known)]
        anchored = _ANCHORED.fullmatch(pattern)
        if not matching or anchored is None or has_other_match(anchored["body"], matching):
            continue
        del patterns[pattern]
        for known in matching:
            own = properties.get(known, member)
            properties[known] = member if own == member else {"allOf": [own, member]}
        schema["properties"] = properties
