"""A thread that reads a camera all the time and keeps only the newest frame. It connects again if the stream ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from vlrun.errors import MediaError, MediaNotFound
from vlrun.media.camera_source import CameraSource
from vlrun.media.camera_stream import opened_camera

if TYPE_CHECKING:
    from av import VideoFrame

FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS, RETRY_FACTOR = 1.0, 30.0, 2.0
"""Time before the next attempt to connect. A camera that restarts takes about 30 seconds."""
CLOSE_SECONDS = 0.5
"""How long ``close`` waits for the thread. One that waits for the network ends later, and disturbs nobody."""


@dataclass(frozen=True)
class ReadFrame:
    """A frame as it was decoded.

    Attributes:
        number: Counts the frames of the camera from 1.
        time: When it was decoded, with the offset of the local time zone.
        monotonic: The same as ``time.monotonic``.
    """

    number: int
    time: datetime
    monotonic: float
    decoded: VideoFrame


class CameraReader:
    """Reads a camera in a thread until ``close``.

    Args:
        source: The camera.
        on_error: Gets what interrupts a stream that had been read, once for each interruption, in the thread.
    """

    def __init__(self, source: CameraSource, on_error: Callable[[MediaError], None]) -> None:
        self._source = source
        self._on_error = on_error
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._newest: ReadFrame | None = None
        self._count = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="vlrun-camera", daemon=True)
        self._thread.start()

    def newer(self, number: int) -> ReadFrame | None:
        """Wait for a frame after the one with this number; None if the reader is closed.

        Raises:
            MediaError: There was no frame at all before the camera failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed.is_set() or self._error or self._is_newer(number))
            if self._closed.is_set():
                return None
            if self._error is not None:
                raise self._error
            return self._newest

    def wait(self, seconds: float) -> bool:
        """Wait for a time, or until the reader is closed. Returns whether it is."""
        return self._closed.wait(seconds)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed.set()
            self._newest = None
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)

    def _is_newer(self, number: int) -> bool:
        return self._newest is not None and self._newest.number > number

    def _run(self) -> None:
        try:
            self._read_again_and_again()
        except BaseException as error:  # noqa: BLE001 - of on_error; raised in the thread that waits
            self._fail(error)

    def _read_again_and_again(self) -> None:
        delay = FIRST_RETRY_SECONDS
        while not self._closed.is_set():
            before, problem = self._count, self._read()
            if self._closed.is_set():
                return
            if not self._count or not isinstance(problem, MediaError):  # nothing was ever read: the user is mistaken
                self._fail(problem)
                return
            if self._count > before:
                delay = FIRST_RETRY_SECONDS
                self._on_error(problem)
            with self._changed:
                self._newest = None  # too old by now
            self._closed.wait(delay)
            delay = min(delay * RETRY_FACTOR, MAX_RETRY_SECONDS)

    def _read(self) -> BaseException:
        """Read until the stream ends, and return why."""
        try:
            with opened_camera(self._source) as frames:
                for frame in frames:
                    if self._closed.is_set():
                        break
                    self._publish(frame)
            return MediaNotFound(f"the stream of '{self._source.name}' has ended")
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            return error.with_traceback(None)

    def _publish(self, frame: VideoFrame) -> None:
        with self._changed:
            self._count += 1
            self._newest = ReadFrame(self._count, datetime.now().astimezone(), time.monotonic(), frame)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()
