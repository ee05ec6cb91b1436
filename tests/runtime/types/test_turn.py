"""Validation of turns and tool choices."""

from __future__ import annotations

import pytest

from vlrun.errors import OptionError
from vlrun.types.turn import ToolChoice


def test_an_unknown_choice_is_refused() -> None:
    """Guards callers without a type checker: an unknown mode would behave like ``auto``."""
    with pytest.raises(OptionError, match="auto, required, none"):
        ToolChoice("any")  # type: ignore[arg-type]
