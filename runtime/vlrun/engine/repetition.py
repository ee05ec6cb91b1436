"""The repetition guard: detects an output that repeats itself without end."""

from __future__ import annotations

from collections.abc import Sequence

MAX_PERIOD = 64
MIN_REPEATS = 8
MIN_TOKENS = 192
"""The end of an output is a loop if it consists of at least ``MIN_REPEATS`` equal parts and ``MIN_TOKENS`` tokens.
Tables and lists repeat themselves too, but hardly token for token for that long.
"""
CHECK_EVERY = 16
"""Tokens between two checks, so that they cost next to nothing."""


def repeats(tokens: Sequence[int]) -> bool:
    """Return whether the output ends in a loop."""
    if len(tokens) < MIN_TOKENS or len(tokens) % CHECK_EVERY:
        return False
    return any(_has_period(tokens, period) for period in range(1, MAX_PERIOD + 1))


def _has_period(tokens: Sequence[int], period: int) -> bool:
    span = max(period * MIN_REPEATS, MIN_TOKENS)
    if len(tokens) < span or tokens[-1] != tokens[-1 - period]:
        return False
    end = tokens[-span:]
    return all(token == before for token, before in zip(end[period:], end, strict=False))
