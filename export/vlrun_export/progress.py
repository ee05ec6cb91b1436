"""What a caller is told about the progress of an export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Report = Callable[[float], None]
"""Is called with the fraction of a step that is done, from 0 to 1."""


class Progress(Protocol):
    """Is called at the beginning of each step, and within a long one with the ``fraction`` that is done."""

    def __call__(self, step: str, fraction: float | None = None) -> None:
        """Take note of a step, or of its fraction."""


def no_progress(step: str, fraction: float | None = None) -> None:
    """Take note of nothing."""
