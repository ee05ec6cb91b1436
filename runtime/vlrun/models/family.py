"""What a model family supplies: the tokens, formats and position rules that are specific to one architecture.

Everything else in the runtime calls a family through this protocol; ``registry.family_of`` finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vlrun.manifest import VisionDimensions
from vlrun.media.transform import ImageTransform
from vlrun.types.arrays import FloatArray, IntArray
from vlrun.types.mark import Mark
from vlrun.types.options import Detail
from vlrun.types.sampling import SamplingParams
from vlrun.types.turn import ToolCall
from vlrun.vision.grid import Grid


@dataclass(frozen=True)
class PatchPositions:
    """Position inputs of the vision encoder for N patches in merge-block order.

    Attributes:
        indices: ``[4, N]``, the four corners of the bilinear interpolation in the learned position table.
        weights: ``[4, N]``, their weights.
        cos: ``[N, head_dim]``, cosines of the rotary angles of rows and columns.
        sin: ``[N, head_dim]``, their sines.
    """

    indices: IntArray
    weights: FloatArray
    cos: FloatArray
    sin: FloatArray


@dataclass(frozen=True)
class ToolCallFormat:
    """How a model writes a tool call: text that holds the arguments as a JSON object, between two control tokens.

    Attributes:
        begin: The control token before a call.
        end: The control token after a call.
        before_name: Text between ``begin`` and the name of the tool.
        before_arguments: Text between the name and the arguments.
        after_arguments: Text between the arguments and ``end``.
        separator: Text between two calls.
        parse: Reads the text between ``begin`` and ``end``; returns None if it is not a call.
    """

    begin: str
    end: str
    before_name: str
    before_arguments: str
    after_arguments: str
    separator: str
    parse: Callable[[str], ToolCall | None]


class ModelFamily(Protocol):
    """One architecture."""

    @property
    def tool_calls(self) -> ToolCallFormat:
        """How the model writes tool calls."""

    @property
    def thinking_tokens(self) -> frozenset[str]:
        """Control tokens that may occur in free text because they enclose the model's reasoning."""

    @property
    def voting(self) -> SamplingParams:
        """Recommended sampling where several answers to one question must differ."""

    def token_positions(self, length: int, images: Sequence[tuple[int, Grid]]) -> IntArray:
        """Return the position ids ``[3, length]`` of a prompt.

        Args:
            length: Tokens of the prompt.
            images: Index of the first visual token and grid of each image, in order.
        """

    def patch_positions(self, grid: Grid, vision: VisionDimensions) -> PatchPositions:
        """Return the position inputs of the vision encoder for one image."""

    def image_label(self, number: int) -> str:
        """Return the text before an image if a prompt has several; ``number`` counts from 1."""

    def image_token_budget(self, detail: Detail) -> int:
        """Return the recommended maximum of visual tokens an image."""

    def find_marks(self, text: str, size: tuple[int, int], transform: ImageTransform) -> tuple[Mark, ...]:
        """Return the boxes and points of an answer, in the order in which they begin.

        Args:
            text: The answer, possibly cut short.
            size: Width and height of the image as the model saw it.
            transform: From that image to the original, whose pixels the marks are in.
        """

    def format_box(self, mark: Mark, size: tuple[int, int]) -> Mapping[str, object]:
        """Return a box as the model would write it, for an image of ``size`` (width, height)."""
