"""Where the words of an answer looked: attention on visual tokens, by token, and which tokens make a word.

Knows text and arrays; knows neither pixels nor how attention is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlrun.errors import OptionError
from vlrun.types.arrays import FloatArray


@dataclass(frozen=True)
class Heat:
    """``maps``: of each image ``[tokens, rows, columns]``, a cell for each visual token; ``pieces``: the text of each
    token of the answer.
    """

    maps: tuple[FloatArray, ...]
    pieces: tuple[str, ...]

    def of(self, word: str | None = None, image: int = 0) -> FloatArray:
        """The heat of a word, wherever the answer says it, or of the whole answer, ``[rows, columns]``.

        Raises OptionError if the answer does not say it.
        """
        wanted = list(range(len(self.pieces))) if word is None else self._tokens_of(word)
        mean: FloatArray = self.maps[image][wanted].mean(0)
        return mean

    def _tokens_of(self, word: str) -> list[int]:
        text, asked = "".join(self.pieces).lower(), word.strip().lower()
        ends = np.cumsum([len(piece) for piece in self.pieces])
        spans = _places(text, asked)
        found = [
            token
            for token, end in enumerate(ends)
            if any(start < end and end - len(self.pieces[token]) < stop for start, stop in spans)
        ]
        if not found:
            raise OptionError(f"the answer does not say '{word}', so there is no heat of it")
        return found


def _places(text: str, word: str) -> list[tuple[int, int]]:
    spans, start = [], text.find(word) if word else -1
    while start >= 0:
        spans.append((start, start + len(word)))
        start = text.find(word, start + len(word))
    return spans
