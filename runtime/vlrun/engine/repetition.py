"""The guard against endless repetition. Knows ids only."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_CYCLE = 64
LEAST_CYCLES = 8
LEAST_TOKENS = 192
"""An answer goes round in a circle if its end consists of at least so many equal parts and so many tokens. Tables and
lists repeat themselves too, but hardly letter for letter for that long.
"""

EVERY = 16
"""The guard looks at every so manyth token: its cost stays out of sight."""


def repeats(tokens: Sequence[int]) -> bool:
    """Whether the answer so far ends in a circle."""
    if len(tokens) < LEAST_TOKENS or len(tokens) % EVERY:
        return False
    return any(_cycles(tokens, period) for period in range(1, LONGEST_CYCLE + 1))


def _cycles(tokens: Sequence[int], period: int) -> bool:
    span = max(period * LEAST_CYCLES, LEAST_TOKENS)
    if len(tokens) < span or tokens[-1] != tokens[-1 - period]:
        return False
    end = tokens[-span:]
    return all(token == before for token, before in zip(end[period:], end, strict=False))
