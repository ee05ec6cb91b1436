"""Finds the frames of a fixed camera in which something has changed. Noise and slow changes of the light do not count.

A frame is compared as a grid of cells, each the mean colour of its pixels, with the last frame that had changed. That
takes a few kilobytes, however long the video is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

Rgb: TypeAlias = npt.NDArray[np.uint8]
FloatArray: TypeAlias = npt.NDArray[np.float32]

CHANGED_SHARE = 0.005
"""Share of the cells that differ in a changed frame: a person at ten metres before a camera of usual angle."""
MAX_CELLS = 64
"""Cells along the longer side: of a frame with 1,280 pixels each has 20, a fraction of a person."""
MIN_CELL_PIXELS = 8
"""Along a side: the mean of 64 pixels has an eighth of their noise."""
MIN_LEVELS = 12.0
"""Of 255: a cell that differs by less does not count. Means of cells vary by 2 to 4 through noise and compression."""
NOISE_FACTOR, MAX_NOISE_LEVELS = 5.0, 36.0
"""In a noisy frame a cell must differ by this factor more than half of the cells do; by ``MAX_NOISE_LEVELS`` it always
counts, so that a frame in which everything is new is not taken for noise.
"""
MAX_GAIN = 1.25
"""Factor of brightness between two frames that is taken for a change of exposure; switching on a light is more."""
LIGHT_SECONDS = 10.0
"""Time constant with which light becomes part of what is compared with; shadows of the sun take minutes."""
_BLACK = 16.0
"""Added to levels before their ratio is taken: that of almost black cells is noise."""


class ChangeDetector:
    """Compares the frames of a fixed camera, one after another, with the last one that had changed.

    Args:
        threshold: Share of the frame that must differ.
    """

    def __init__(self, threshold: float = CHANGED_SHARE) -> None:
        self._threshold = threshold
        self._reference: FloatArray | None = None
        self._seconds = 0.0

    def changed(self, seconds: float, rgb: Rgb) -> bool:
        """Return whether a frame has changed; the first one has. Later frames are then compared with this one.

        Args:
            seconds: The time of the frame.
            rgb: Pixels ``[height, width, 3]``.
        """
        cells, elapsed, self._seconds = _cells(rgb), max(seconds - self._seconds, 0.0), seconds
        reference = self._reference
        if reference is None or reference.shape != cells.shape:
            self._reference = cells
            return True
        differs = _differing(reference, cells)
        if np.count_nonzero(differs) >= max(self._threshold * differs.size, 1):
            self._reference = cells
            return True
        unchanged = ~differs
        share = -math.expm1(-elapsed / LIGHT_SECONDS)
        reference[unchanged] += np.float32(share) * (cells - reference)[unchanged]
        return False


def changed_times(frames: Iterable[tuple[float, Rgb]], limit: int, threshold: float = CHANGED_SHARE) -> list[float]:
    """Return the times of the frames that changed, the first one included, in memory for ``limit`` times.

    If there are more, those are left out that follow another one most closely, so that the rest is spread over time.

    Args:
        frames: Seconds and pixels ``[height, width, 3]``, in order.
        limit: Maximum number of times.
        threshold: Share of a frame that must differ.
    """
    detector = ChangeDetector(threshold)
    times: list[float] = []
    for seconds, rgb in frames:
        if not detector.changed(seconds, rgb):
            continue
        times.append(seconds)
        if len(times) > limit:
            del times[int(np.argmin(np.diff(times))) + 1]
    return times


def _cells(rgb: Rgb) -> FloatArray:
    """Return the mean colour of each cell, ``[rows, columns, 3]``."""
    height, width = rgb.shape[:2]
    side = max(height, width) / MAX_CELLS
    columns, rows = (max(int(length / max(side, MIN_CELL_PIXELS)), 1) for length in (width, height))
    return np.asarray(PILImage.fromarray(rgb).resize((columns, rows), PILImage.Resampling.BOX), np.float32)


def _differing(reference: FloatArray, cells: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which cells differ, apart from noise and exposure, ``[rows, columns]``."""
    lighter = (cells + _BLACK) / (reference + _BLACK)
    gain = np.clip(np.median(lighter), 1 / MAX_GAIN, MAX_GAIN)
    difference = np.abs(cells + _BLACK - gain * (reference + _BLACK)).max(axis=2)
    levels = np.clip(NOISE_FACTOR * np.median(difference), MIN_LEVELS, MAX_NOISE_LEVELS)
    return np.asarray(difference > levels)
