"""How the time of the vision encoder grows with the size of an image."""

from __future__ import annotations

ATTENTION_SHARE = 0.5
"""Quadratic share of the time for an image of ``ATTENTION_AT`` visual tokens (docs/performance.md)."""
ATTENTION_AT = 768


def relative_cost(tokens: int) -> float:
    """Return the cost of an image of ``tokens`` visual tokens, in an arbitrary unit."""
    return tokens * (1 - ATTENTION_SHARE + ATTENTION_SHARE * tokens / ATTENTION_AT)
