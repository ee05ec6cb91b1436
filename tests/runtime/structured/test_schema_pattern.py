"""Patterns of JSON schemas."""

from __future__ import annotations

import pytest

from vlrun.errors import OptionError
from vlrun.structured.schema_pattern import translate_pattern


@pytest.mark.parametrize("pattern", ["(?=a)b", "(?i)a", "(?P<n>a)", r"(a)\1", r"a\b", "[]", "[a[b]]", "[a--b]", "a*+"])
def test_patterns_that_differ_between_dialects_are_refused(pattern: str) -> None:
    """Guards against patterns that llguidance reads differently from the client's validator."""
    with pytest.raises(OptionError, match="pattern at #/pattern"):
        translate_pattern(pattern, "#/pattern")
