"""The counts as clients in Python describe them: a schema as a class, and a tool as a function."""

from __future__ import annotations

from pydantic import BaseModel


class Counts(BaseModel):
    """The counts."""

    bottles: int
    cans: int


def report_count(bottles: int, cans: int) -> str:
    """Report the counts.

    Args:
        bottles: The number of bottles.
        cans: The number of cans.
    """
    return f"{bottles} {cans}"
