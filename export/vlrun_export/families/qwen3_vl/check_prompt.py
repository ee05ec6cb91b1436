"""The prompt of the self-check: a small drawn image, a question and its answer, in Qwen's chat format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tokenizers

from vlrun import manifest
from vlrun.manifest import Preprocessing, TokenIds, VisionDimensions
from vlrun.models.qwen3_vl.positions import patch_positions, token_positions
from vlrun.vision.grid import Grid

if TYPE_CHECKING:
    from vlrun.models.family import PatchPositions

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

BLOCKS_HIGH, BLOCKS_WIDE = 5, 7
"""Size of the image in merge blocks: odd and not square, so that rows and columns cannot be confused."""

BEFORE = "<|im_start|>user\n<|vision_start|>"
AFTER = (
    "<|vision_end|>Describe this image.<|im_end|>\n<|im_start|>assistant\n"
    "The image shows a red square and a blue circle on a gray background.<|im_end|>"
)


@dataclass(frozen=True)
class CheckPrompt:
    """A prompt ``ids [T]`` and the ``patches [N, channels * temporal * patch^2]`` of its image at token ``start``."""

    ids: IntArray
    patches: FloatArray
    grid: Grid
    start: int

    @property
    def visual(self) -> slice:
        """Slice of the visual tokens."""
        return slice(self.start, self.start + self.grid.tokens)

    def patch_positions(self, vision: VisionDimensions) -> PatchPositions:
        """Return the positions of the patches."""
        return patch_positions(self.grid, vision.position_side, vision.hidden // vision.heads, vision.rope_theta)

    def token_positions(self) -> IntArray:
        """Return the positions of the tokens, ``[3, T]``."""
        return token_positions(len(self.ids), [(self.start, self.grid)])


def make_check_prompt(
    folder: Path, vision: VisionDimensions, tokens: TokenIds, preprocessing: Preprocessing
) -> CheckPrompt:
    """Build the prompt for the patch size and for the tokenizer of the model folder ``folder``."""
    grid = Grid(BLOCKS_HIGH * vision.merge, BLOCKS_WIDE * vision.merge, vision.merge)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / manifest.TOKENIZER))
    before, after = (tokenizer.encode(text, add_special_tokens=False).ids for text in (BEFORE, AFTER))
    ids = np.array([*before, *[tokens.image] * grid.tokens, *after], np.int64)
    image = _draw(grid.height * vision.patch, grid.width * vision.patch)
    pixels = (image - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    return CheckPrompt(ids, _cut(pixels.astype(np.float32), grid, vision), grid, start=len(before))


def _draw(height: int, width: int) -> npt.NDArray[np.float64]:
    """Draw a red square and a blue disc on a gradient, RGB in 0..1."""
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    image = np.stack([0.4 + 0.3 * columns, 0.5 + 0.2 * rows, 0.6 - 0.2 * columns], axis=-1)
    image[(abs(rows - 0.35) < 0.15) & (abs(columns - 0.3) < 0.15)] = 0.85, 0.1, 0.1
    image[(rows - 0.4) ** 2 + (columns - 0.7) ** 2 < 0.15**2] = 0.1, 0.2, 0.8
    return image


def _cut(pixels: FloatArray, grid: Grid, vision: VisionDimensions) -> FloatArray:
    """Cut ``[H, W, 3]`` into patches in merge-block order, each ``[3, temporal, patch, patch]`` flattened.

    A still image fills all frames.
    """
    m, p = grid.merge, vision.patch
    blocks = pixels.reshape(grid.height // m, m, p, grid.width // m, m, p, 3).transpose(0, 3, 1, 4, 6, 2, 5)
    frames = np.repeat(blocks.reshape(grid.patches, 3, 1, p, p), vision.temporal_patch, axis=2)
    return np.ascontiguousarray(frames.reshape(grid.patches, -1))
