"""The attention of an answer's tokens to visual tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from vlrun.errors import OptionError
from vlrun.media.transform import Corners
from vlrun.types.arguments import optional, text, whole_number
from vlrun.types.arrays import FloatArray


@dataclass(frozen=True)
class Heat:
    """Attention of each token of an answer to each image.

    Attributes:
        maps: Per image, attention ``[answer tokens, rows, columns]`` with one cell per visual token.
        token_texts: The text of each answer token.
        corners: Per image, where the top left, top right and bottom left corner of its maps lie in the original image,
            in pixels: the model may have seen a part of it, straightened.
    """

    maps: tuple[FloatArray, ...]
    token_texts: tuple[str, ...]
    corners: tuple[Corners, ...]

    def mean(self, word: str | None = None, image: int = 0) -> FloatArray:
        """Return the mean attention ``[rows, columns]`` of the answer, or of all occurrences of a word.

        Raises:
            OptionError: The word does not occur in the answer, or there is no such image.
        """
        optional(text)("word", word)
        if not 0 <= whole_number("image", image) < len(self.maps):
            raise OptionError(f"image must lie between 0 and {len(self.maps) - 1}, not {image}")
        tokens = list(range(len(self.token_texts))) if word is None else self._tokens_of(word)
        mean: FloatArray = self.maps[image][tokens].mean(0)
        return mean

    def _tokens_of(self, word: str) -> list[int]:
        ends = np.cumsum([len(text) for text in self.token_texts])
        word_pattern = re.escape(word.strip().lower()) or r"(?!)"
        spans = [match.span() for match in re.finditer(word_pattern, "".join(self.token_texts).lower())]
        found = [
            token
            for token, end in enumerate(ends)
            if any(start < end and end - len(self.token_texts[token]) < stop for start, stop in spans)
        ]
        if not found:
            raise OptionError(f"the answer does not contain '{word}', so it has no heat map")
        return found
