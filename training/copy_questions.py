"""Pages of text to copy word for word: a transcription task in which prompt lookup helps."""

from __future__ import annotations

import numpy as np

from training.qa import QAPair
from training.rendering import COLOURS
from training.scenes import KINDS, SHAPES, WORDS
from training.templates import COMMON_WORDS, COPY, ZH, plural

MAX_LINES, MAX_WORDS = 7, 5
"""Lines of a page and words of a line; two pages fit behind an image in training."""


def copy_question(rng: np.random.Generator, *, lines: int | None = None) -> QAPair:
    """Draw a request to copy a page of ``lines`` lines; a random number if None."""
    language = "en" if rng.random() < 0.7 else "zh"
    page = "\n".join(_line(rng) for _ in range(lines or int(rng.integers(1, MAX_LINES + 1))))
    return QAPair("copy", language, str(rng.choice(COPY[language])).format(text=page), page)


def _line(rng: np.random.Generator) -> str:
    """Draw a line: words, an item with its price, a word with a number, or Chinese words."""
    kind = rng.random()
    if kind < 0.25:
        return f"{_item(rng)} ${rng.integers(0, 100)}.{rng.integers(0, 100):02}"
    if kind < 0.4:
        return f"{rng.choice(WORDS)} {rng.integers(0, 10 ** int(rng.integers(1, 6)))}"
    if kind < 0.55:
        things = (*COLOURS, *KINDS, *SHAPES)
        return "、".join(ZH[str(rng.choice(things))] for _ in range(int(rng.integers(1, 4))))
    words = [str(rng.choice(COMMON_WORDS)) for _ in range(int(rng.integers(2, MAX_WORDS + 1)))]
    return " ".join(words) + str(rng.choice(["", ".", ",", "?", ":"]))


def _item(rng: np.random.Generator) -> str:
    return f"{rng.integers(1, 20)} {rng.choice(list(COLOURS))} {plural(str(rng.choice(KINDS)))}"
