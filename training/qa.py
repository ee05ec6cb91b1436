"""Questions with their true answers: what training and evaluation data consist of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from training.rendering import Box


@dataclass(frozen=True)
class AttentionTarget:
    """Where attention should go while characters ``start`` to ``end`` of an answer are generated.

    ``boxes``: in 0..1 of the image; ``counted``: whether the answer is their number; ``images``: index of the image of
    each box, empty if all are in the first.
    """

    start: int
    end: int
    boxes: tuple[Box, ...]
    counted: bool = False
    images: tuple[int, ...] = ()


@dataclass(frozen=True)
class QAPair:
    """A question and its true answer. ``task``: what it tests; ``attention``: targets for parts of the answer."""

    task: str
    language: str
    question: str
    answer: str
    attention: tuple[AttentionTarget, ...] = ()


Turns: TypeAlias = tuple[QAPair, ...]
"""The turns of a conversation, in order."""
