"""How a model samples and resizes the frames of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec


@dataclass(frozen=True)
class VideoRules:
    """Sampling and sizes of frames. The defaults are those of the published models.

    Attributes:
        fps: Frames per second that are sampled.
        min_frames: Minimum of sampled frames, as far as the video has them.
        max_frames: Maximum of sampled frames.
        min_pixels: Minimum of frames x width x height after resizing.
        max_pixels: Maximum of frames x width x height after resizing.
    """

    fps: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 2.0
    min_frames: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)] = 4
    max_frames: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)] = 768
    min_pixels: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)] = 4096
    max_pixels: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)] = 25_165_824


PUBLISHED_RULES = VideoRules()
