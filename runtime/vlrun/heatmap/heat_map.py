"""The attention of an answer's tokens to visual tokens, and its mean over the whole answer or one word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlrun.errors import OptionError
from vlrun.types.arrays import FloatArray


@dataclass(frozen=True)
class Heat:
    """Attention of each token of an answer to each image.

    Attributes:
        maps: Per image, attention ``[answer tokens, rows, columns]`` with one cell per visual token.
        token_texts: The text of each answer token.
    """

    maps: tuple[FloatArray, ...]
    token_texts: tuple[str, ...]

    def mean(self, word: str | None = None, image: int = 0) -> FloatArray:
        """The mean attention ``[rows, columns]`` of the whole answer, or of a word wherever it occurs in the answer.

        Raises:
            OptionError: The word does not occur in the answer.
        """
        tokens = list(range(len(self.token_texts))) if word is None else self._tokens_of(word)
        mean: FloatArray = self.maps[image][tokens].mean(0)
        return mean

    def _tokens_of(self, word: str) -> list[int]:
        ends = np.cumsum([len(text) for text in self.token_texts])
        spans = _occurrences("".join(self.token_texts).lower(), word.strip().lower())
        found = [
            token
            for token, end in enumerate(ends)
            if any(start < end and end - len(self.token_texts[token]) < stop for start, stop in spans)
        ]
        if not found:
            raise OptionError(f"the answer does not contain '{word}', so it has no heat map")
        return found


def _occurrences(text: str, word: str) -> list[tuple[int, int]]:
    spans, start = [], text.find(word) if word else -1
    while start >= 0:
        spans.append((start, start + len(word)))
        start = text.find(word, start + len(word))
    return spans
