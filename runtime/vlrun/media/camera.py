"""Cameras and network streams as images, always the newest one."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from vlrun.errors import MediaError, OptionError
from vlrun.media.camera_reader import CameraReader
from vlrun.media.camera_source import parse_camera
from vlrun.media.camera_stream import check_installed
from vlrun.media.image import Image, make_image
from vlrun.media.keyframes import ChangeDetector
from vlrun.types.arguments import flag, has_method, number

CHECK_SECONDS = 0.2
"""Between two comparisons of frames; each takes some milliseconds."""


@dataclass(frozen=True)
class CameraFrame:
    """A frame of a camera.

    Attributes:
        image: The image, for ``VLM.ask`` and everything else that takes images.
        time: When it was received, with the offset of the local time zone.
    """

    image: Image
    time: datetime


class Camera:
    """A camera of this machine or a network stream; needs the extra ``video``.

    A thread reads it all the time and keeps only the newest frame, so slow answers cause no delay. If the stream is
    interrupted, it is opened again. ``close`` it, or use it in a ``with`` block.

    Args:
        source: A device such as /dev/video0, or an rtsp, rtsps, http or https URL.
        on_error: Gets the error when a stream is interrupted, from the reading thread.

    Attributes:
        name: The source without user name and password.

    Raises:
        OptionError: ``source`` is neither a device nor such a URL.
        MediaError: There is no such device, or the extra is missing.
    """

    def __init__(self, source: str, on_error: Callable[[MediaError], None] = lambda _: None) -> None:
        has_method("__call__", "a function")("on_error", on_error)
        parsed = parse_camera(source)
        check_installed(parsed)
        self.name = parsed.name
        self._reader = CameraReader(parsed, on_error)
        self._finalizer = weakref.finalize(self, self._reader.close)

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading: ``frames`` end."""
        self._finalizer()

    def frames(self, every: float = 0.0, *, on_change: bool = False) -> Generator[CameraFrame]:
        """Yield the newest frame, again and again, until the camera is closed.

        Args:
            every: Least seconds between two frames. If what is done with a frame takes longer, the next one follows at
                once.
            on_change: Yield only frames that differ from the one before; noise and slow changes of the light do not
                count.

        Raises:
            MediaError: The camera does not answer, or sends no video. Not if it fails later: it is then opened again.
        """
        every, on_change = number("every", every), flag("on_change", on_change)
        if not (math.isfinite(every) and every >= 0):
            raise OptionError(f"every must be a number of seconds from 0 on, not {every}")
        return self._frames(every, ChangeDetector() if on_change else None)

    def _frames(self, every: float, detector: ChangeDetector | None) -> Generator[CameraFrame]:
        last, pause = 0, 0.0
        while not self._reader.wait(pause) and (read := self._reader.newer(last)):
            last, pause = read.number, CHECK_SECONDS
            rgb = np.asarray(read.decoded.to_ndarray(format="rgb24"), np.uint8)
            if detector is None or detector.changed(read.monotonic, rgb):
                began = time.monotonic()
                yield CameraFrame(make_image(rgb), read.time)
                pause = max(began + every - time.monotonic(), 0.0)
