"""Qwen3-VL as a `ModelFamily`."""

from __future__ import annotations

from collections.abc import Mapping

from vlrun.manifest import VisionDimensions
from vlrun.models.family import PatchPositions, ReasoningFormat
from vlrun.models.qwen3_vl import grounding, positions, times
from vlrun.models.qwen3_vl.tool_calls import TOOL_CALLS
from vlrun.types.options import Detail
from vlrun.types.sampling import SamplingParams
from vlrun.vision.grid import Grid

IMAGE_TOKENS: Mapping[Detail, int] = {"low": 256, "auto": 1280, "high": 2560}
"""Qwen recommends 256 to 1280 visual tokens per image; small print needs twice as many."""

VIDEO_TOKENS: Mapping[Detail, int] = {"low": 1024, "auto": 4096, "high": 16384}
"""Qwen recommends 256 to 16384 visual tokens per video; a CPU takes minutes for the maximum."""


class Qwen3VL:
    """The dense Qwen3-VL models, Instruct and Thinking."""

    architecture = "qwen3vl"
    tool_calls = TOOL_CALLS
    reasoning = ReasoningFormat(begin="<think>", end="</think>", separator="\n\n")
    voting = SamplingParams(temperature=0.7, top_p=0.8, top_k=20)
    """From the model card, for Instruct models with images."""

    token_positions = staticmethod(positions.token_positions)
    find_marks = staticmethod(grounding.find_marks)
    find_times = staticmethod(times.find_times)
    format_box = staticmethod(grounding.format_box)

    def patch_positions(self, grid: Grid, vision: VisionDimensions) -> PatchPositions:
        """Return positions in the learned table and rotary angles."""
        head_dim = vision.hidden // vision.heads
        return positions.patch_positions(grid, vision.position_side, head_dim, vision.rope_theta)

    def image_label(self, number: int) -> str:
        """Return the label that the published chat template writes with ``add_vision_id``."""
        return f"Picture {number}: "

    def video_label(self, number: int) -> str:
        """Return the label that the published chat template writes with ``add_vision_id``."""
        return f"Video {number}: "

    def image_token_budget(self, detail: Detail) -> int:
        """Return the budget of ``IMAGE_TOKENS``."""
        return IMAGE_TOKENS[detail]

    def video_token_budget(self, detail: Detail) -> int:
        """Return the budget of ``VIDEO_TOKENS``."""
        return VIDEO_TOKENS[detail]


QWEN3_VL = Qwen3VL()
