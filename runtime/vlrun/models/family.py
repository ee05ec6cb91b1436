"""The interface of a model family: tokens, formats and position rules that are specific to one architecture.

``registry.family_of`` returns the family of a model folder. No other code depends on the architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vlrun.manifest import VisionDimensions
from vlrun.media.transform import ImageTransform
from vlrun.types.arrays import FloatArray, IntArray
from vlrun.types.mark import Mark
from vlrun.types.options import Detail
from vlrun.types.sampling import SamplingParams
from vlrun.types.time_span import TimeSpan
from vlrun.types.turn import ToolCall
from vlrun.vision.grid import Grid


@dataclass(frozen=True)
class PatchPositions:
    """Position inputs of the vision encoder for N patches in merge-block order.

    Attributes:
        indices: Corners of the bilinear interpolation in the learned position table, ``[4, N]``.
        weights: Weights of the corners, ``[4, N]``.
        cos: Cosines of the rotary angles, ``[N, head_dim]``.
        sin: Sines of the rotary angles, ``[N, head_dim]``.
    """

    indices: IntArray
    weights: FloatArray
    cos: FloatArray
    sin: FloatArray

    def encoder_inputs(self, pixels: FloatArray) -> dict[str, npt.NDArray[np.generic]]:
        """Return all inputs of the vision encoder by name. ``pixels``: the patches."""
        return {
            "patches": pixels,
            "position_indices": self.indices,
            "position_weights": self.weights,
            "rotary_cos": self.cos,
            "rotary_sin": self.sin,
        }


def encoder_input_shapes(vision: VisionDimensions) -> dict[str, list[int]]:
    """Return the shapes of ``PatchPositions.encoder_inputs``; -1 is the number of patches."""
    head_dim = vision.hidden // vision.heads
    return {
        "patches": [-1, 3 * vision.temporal_patch * vision.patch**2],
        "position_indices": [4, -1],
        "position_weights": [4, -1],
        "rotary_cos": [-1, head_dim],
        "rotary_sin": [-1, head_dim],
    }


@dataclass(frozen=True)
class ToolCallFormat:
    """How a model writes a tool call: text with the arguments as a JSON object, between two control tokens.

    Attributes:
        begin: Control token before a call.
        end: Control token after a call.
        before_name: Text between ``begin`` and the tool's name.
        before_arguments: Text between the name and the arguments.
        after_arguments: Text between the arguments and ``end``.
        separator: Text between two calls.
        parse: Parses the text between ``begin`` and ``end``; returns None if it is not a call.
    """

    begin: str
    end: str
    before_name: str
    before_arguments: str
    after_arguments: str
    separator: str
    parse: Callable[[str], ToolCall | None]


@dataclass(frozen=True)
class ReasoningFormat:
    """How a Thinking model writes its reasoning before the answer.

    Attributes:
        begin: Control token before the reasoning; the template may write it.
        end: Control token after the reasoning.
        separator: Text between ``end`` and the answer.
    """

    begin: str
    end: str
    separator: str


class ModelFamily(Protocol):
    """One architecture."""

    @property
    def architecture(self) -> str:
        """The architecture's name in GGUF files, which clients of other servers know."""

    @property
    def tool_calls(self) -> ToolCallFormat:
        """How the model writes tool calls."""

    @property
    def reasoning(self) -> ReasoningFormat:
        """How Thinking models write their reasoning."""

    @property
    def voting(self) -> SamplingParams:
        """Recommended sampling when several answers to one question should differ."""

    def token_positions(self, length: int, images: Sequence[tuple[int, Grid]]) -> IntArray:
        """Return the position ids ``[3, length]`` of a prompt.

        Args:
            length: Tokens of the prompt.
            images: Index of the first visual token and grid of each image, in order.
        """

    def patch_positions(self, grid: Grid, vision: VisionDimensions) -> PatchPositions:
        """Return the position inputs of the vision encoder for one image."""

    def image_label(self, number: int) -> str:
        """Return the label before image ``number`` (from 1) in a prompt with several images."""

    def video_label(self, number: int) -> str:
        """Return the label before video ``number`` (from 1) in a prompt with several images or videos."""

    def image_token_budget(self, detail: Detail) -> int:
        """Return the recommended maximum of visual tokens per image."""

    def video_token_budget(self, detail: Detail) -> int:
        """Return the recommended maximum of visual tokens per video."""

    def find_marks(self, text: str, size: tuple[int, int], transform: ImageTransform) -> tuple[Mark, ...]:
        """Return the boxes and points of an answer, in order.

        Args:
            text: The answer, possibly cut short.
            size: Width and height of the image that the model received.
            transform: From that image to the original, in whose pixels the marks are.
        """

    def find_times(self, text: str, last: float) -> tuple[TimeSpan, ...]:
        """Return the moments and parts of a video that an answer names, in order.

        Args:
            text: The answer, possibly cut short.
            last: Seconds of the last frame.
        """

    def format_box(self, mark: Mark, size: tuple[int, int]) -> Mapping[str, object]:
        """Return a box in the model's own format, for an image of ``size`` (width, height)."""
