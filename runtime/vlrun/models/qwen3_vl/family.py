"""Qwen3-VL as a `ModelFamily`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlrun.manifest import VisionDimensions
from vlrun.media.transform import ImageTransform
from vlrun.models.family import PatchPositions, ToolCallFormat
from vlrun.models.qwen3_vl import grounding, positions
from vlrun.models.qwen3_vl.tool_calls import TOOL_CALLS
from vlrun.types.arrays import IntArray
from vlrun.types.mark import Mark
from vlrun.types.options import Detail
from vlrun.types.sampling import SamplingParams
from vlrun.vision.grid import Grid

IMAGE_TOKENS: Mapping[Detail, int] = {"low": 256, "auto": 1280, "high": 2560}
"""Qwen recommends 256 to 1280 visual tokens an image; twice the maximum reads small print."""
VOTING = SamplingParams(temperature=0.7, top_p=0.8, top_k=20)
"""What the model card recommends for Instruct models with images."""


@dataclass(frozen=True)
class Qwen3VL:
    """The dense Qwen3-VL models, Instruct and Thinking."""

    tool_calls: ToolCallFormat = TOOL_CALLS
    thinking_tokens: frozenset[str] = frozenset({"<think>", "</think>"})
    voting: SamplingParams = VOTING

    def token_positions(self, length: int, images: Sequence[tuple[int, Grid]]) -> IntArray:
        """Return M-RoPE positions."""
        return positions.token_positions(length, images)

    def patch_positions(self, grid: Grid, vision: VisionDimensions) -> PatchPositions:
        """Return positions in the learned table and rotary angles."""
        head_dim = vision.hidden // vision.heads
        return positions.patch_positions(grid, vision.position_side, head_dim, vision.rope_theta)

    def image_label(self, number: int) -> str:
        """Return what the published chat template writes with ``add_vision_id``."""
        return f"Picture {number}: "

    def image_token_budget(self, detail: Detail) -> int:
        """Return the budget of ``IMAGE_TOKENS``."""
        return IMAGE_TOKENS[detail]

    def find_marks(self, text: str, size: tuple[int, int], transform: ImageTransform) -> tuple[Mark, ...]:
        """Return the objects with ``bbox_2d`` or ``point_2d`` and the ``<|box_start|>`` tokens of an answer."""
        return grounding.find_marks(text, size, transform)

    def format_box(self, mark: Mark, size: tuple[int, int]) -> Mapping[str, object]:
        """Return an object with ``bbox_2d`` in thousandths of the image."""
        return grounding.format_box(mark, size)


QWEN3_VL = Qwen3VL()
