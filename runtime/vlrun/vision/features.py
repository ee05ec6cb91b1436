"""Image features: the vision encoder's output and the decoder's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlrun.types.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Features of the visual tokens of one image, or of its last ones.

    Attributes:
        values: ``[1 + deepstack, tokens, hidden]`` float32. Row 0 holds the embeddings; DeepStack adds the other rows
            to the hidden states after the first decoder layers.
    """

    values: FloatArray

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.dtype != np.float32:
            raise ValueError(f"image features are float32 [1 + deepstack, tokens, hidden], not {self.values.shape}")

    @property
    def tokens(self) -> int:
        """Number of visual tokens."""
        return int(self.values.shape[1])

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.values.nbytes

    def slice(self, start: int, end: int) -> ImageFeatures:
        """Return tokens ``start .. end`` as a view."""
        return ImageFeatures(self.values[:, start:end])

    def last(self, tokens: int) -> ImageFeatures:
        """Return the last ``tokens`` tokens as a view."""
        return self.slice(self.tokens - tokens, self.tokens)
