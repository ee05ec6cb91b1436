"""The times of all frames of a video, and which of them are keyframes, in units of the stream's time base."""

from __future__ import annotations

from array import array

import numpy as np

from vlrun.types.arrays import IntArray


class FrameIndex:
    """Times in presentation order.

    Attributes:
        times: The times of the frames; their numbers if the file has no times.
        seekable: Whether the file has times.
    """

    def __init__(self) -> None:
        self.times: IntArray = np.empty(0, np.int64)
        self.seekable = True
        self._keyframes: IntArray = self.times
        self._added, self._added_keyframes = array("q"), array("q")

    def __len__(self) -> int:
        return len(self._added)

    def add(self, time: int | None, *, keyframe: bool) -> None:
        """Add a frame, in any order."""
        self.seekable = self.seekable and time is not None
        self._added.append(time or 0)
        if keyframe:
            self._added_keyframes.append(time or 0)

    def finish(self) -> None:
        """Sort the frames when all are added."""
        if self.seekable:
            self.times = np.sort(np.array(self._added, np.int64))
            self._keyframes = np.sort(np.array(self._added_keyframes, np.int64))
        else:
            self.times = np.arange(len(self._added))

    def keyframe_before(self, time: int) -> int | None:
        """Return the time of the last keyframe at ``time`` or before; None if there is none."""
        position = int(np.searchsorted(self._keyframes, time, side="right"))
        return int(self._keyframes[position - 1]) if position else None
