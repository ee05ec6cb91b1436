"""The repetition guard: detects an output that has run into an endless loop."""

from __future__ import annotations

from collections.abc import Sequence

MAX_PERIOD = 64
MIN_REPEATS = 8
MIN_TOKENS = 192
"""An output ends in a loop if its last part is repeated ``MIN_REPEATS`` times over at least ``MIN_TOKENS`` tokens.
Tables and lists rarely repeat token for token for that long.
"""
CHECK_EVERY = 16
"""Tokens between two checks, which keeps their cost negligible."""


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
