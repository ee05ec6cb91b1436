"""Which frames of a video the model sees, in what size and at what times: as the processor of the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vlrun.errors import MediaNotFound, MediaTooLarge, UnsupportedMedia
from vlrun.types.video_rules import VideoRules

DEFAULT_FPS = 24.0
"""Of a file that does not tell its frame rate, as in the reference."""
PAIR = 2
"""Frames of one temporal patch."""
MAX_ASPECT_RATIO = 200
"""Limit on longer side / shorter side in the reference (``smart_resize``)."""


def sample_frames(total: int, fps: float, rules: VideoRules, window: tuple[int, int] | None = None) -> list[int]:
    """Return the indices of the sampled frames, in order (``sample_frames`` of the reference).

    Args:
        total: Number of frames of the video.
        fps: Its frame rate.
        rules: How many frames are sampled.
        window: First and last index of the part that is meant; None for the whole video.
    """
    first, last = window or (0, total - 1)
    available = last - first + 1
    count = int(available / fps * rules.fps)
    count = min(max(count, rules.min_frames), rules.max_frames, available)
    indices: list[int] = np.linspace(first, last, count).round().astype(int).tolist()
    return indices


def frames_between(total: int, fps: float, start: float | None, end: float | None) -> range:
    """Return the numbers of the frames from ``start`` to ``end`` seconds."""
    first = 0 if start is None else math.ceil(start * fps - 1e-6)
    last = total - 1 if end is None else min(math.floor(end * fps + 1e-6), total - 1)
    return range(first, last + 1)


def frame_window(total: int, fps: float, start: float | None, end: float | None, name: str) -> tuple[int, int]:
    """Return the first and the last frame from ``start`` to ``end`` seconds, or the next one if there is none between.

    Raises MediaNotFound if the video ends before.
    """
    frames = frames_between(total, fps, start, end)
    if frames.start > total - 1:
        raise MediaNotFound(f"{name} ends after {total / fps:.1f} s, before the start at {start:g} s")
    return frames.start, max(frames.start, frames.stop - 1)


def pair_times(times: Sequence[float]) -> list[float]:
    """Return the seconds of the pairs of frames (``_calculate_timestamps``): the mean of the two. An odd frame at the
    end is paired with itself.
    """
    padded = [*times, *times[-1:]] if len(times) % PAIR else list(times)
    return [(first + second) / 2 for first, second in zip(padded[::PAIR], padded[1::PAIR], strict=True)]


def fit_frames(frames: int, width: int, height: int, factor: int, rules: VideoRules) -> tuple[int, int]:
    """Return width and height that the frames are resized to: multiples of ``factor`` (``smart_resize``).

    Args:
        frames: Number of frames. The reference refuses one; here it counts as the pair that it becomes.
        width: Of a frame.
        height: Of a frame.
        factor: Side of a visual token in pixels.
        rules: Limits of frames x width x height.

    Raises:
        UnsupportedMedia: The frames are smaller than a visual token.
        MediaTooLarge: The side ratio is beyond ``MAX_ASPECT_RATIO``.
    """
    if min(width, height) < factor:
        raise UnsupportedMedia(f"a video of {width} x {height} pixels is too small: {factor} x {factor} is the least")
    if max(width, height) / min(width, height) > MAX_ASPECT_RATIO:
        raise MediaTooLarge(
            f"a video of {width} x {height} is too narrow a strip: the side ratio may be at most {MAX_ASPECT_RATIO}"
        )
    frames = max(frames, PAIR)
    high, wide = round(height / factor) * factor, round(width / factor) * factor
    volume = round(frames / PAIR) * PAIR * high * wide
    if volume > rules.max_pixels:
        shrink = math.sqrt(frames * height * width / rules.max_pixels)
        high = max(factor, math.floor(height / shrink / factor) * factor)
        wide = max(factor, math.floor(width / shrink / factor) * factor)
    elif volume < rules.min_pixels:
        grow = math.sqrt(rules.min_pixels / (frames * height * width))
        high = math.ceil(height * grow / factor) * factor
        wide = math.ceil(width * grow / factor) * factor
    return wide, high
