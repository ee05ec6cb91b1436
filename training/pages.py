"""Pages of text that are to be copied word for word: what a transcript asks of the decoder, and prompt lookup serves.

Knows words; knows no images and no tokens.
"""

from __future__ import annotations

import numpy as np

from training.painting import COLOURS
from training.questions import Exchange
from training.scenes import KINDS, SHAPES, WORDS
from training.wording import COMMON_WORDS, COPY, ZH, plural

MOST_LINES, MOST_WORDS = 7, 5
"""Of a page, and of a line: as much as fits behind an image in training, twice."""


def copying(rng: np.random.Generator, *, lines: int | None = None) -> Exchange:
    """A request to copy a page of ``lines``, any number if None."""
    language = "en" if rng.random() < 0.7 else "zh"
    page = "\n".join(_line(rng) for _ in range(lines or int(rng.integers(1, MOST_LINES + 1))))
    return Exchange("copy", language, str(rng.choice(COPY[language])).format(text=page), page)


def _line(rng: np.random.Generator) -> str:
    """Some words, an item with its price, a sum, or something in Chinese."""
    kind = rng.random()
    if kind < 0.25:
        return f"{_item(rng)} ${rng.integers(0, 100)}.{rng.integers(0, 100):02}"
    if kind < 0.4:
        return f"{rng.choice(WORDS)} {rng.integers(0, 10 ** int(rng.integers(1, 6)))}"
    if kind < 0.55:
        things = (*COLOURS, *KINDS, *SHAPES)
        return "、".join(ZH[str(rng.choice(things))] for _ in range(int(rng.integers(1, 4))))
    words = [str(rng.choice(COMMON_WORDS)) for _ in range(int(rng.integers(2, MOST_WORDS + 1)))]
    return " ".join(words) + str(rng.choice(["", ".", ",", "?", ":"]))


def _item(rng: np.random.Generator) -> str:
    return f"{rng.integers(1, 20)} {rng.choice(list(COLOURS))} {plural(str(rng.choice(KINDS)))}"
