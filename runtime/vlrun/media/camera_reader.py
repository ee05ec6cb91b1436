"""Threads that read a camera all the time and keep only its newest frame. They connect again if the stream ends.

One thread reads; another watches it, because a driver may never return from a read when its camera is unplugged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from vlrun.errors import MediaError, MediaNotFound
from vlrun.media.camera_source import NETWORK_SECONDS, CameraSource
from vlrun.media.camera_stream import PICTURE_SECONDS, opened_camera

if TYPE_CHECKING:
    from av import VideoFrame

FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS, RETRY_FACTOR = 1.0, 30.0, 2.0
"""Time before the next attempt to connect. A camera that restarts takes about 30 seconds."""
CLOSE_SECONDS = 0.5
"""How long ``close`` waits for the threads. One that waits for the network ends later, and disturbs nobody."""
WATCH_SECONDS = 0.25
"""Between two looks at a connection."""
DEVICE_SECONDS = NETWORK_SECONDS
"""A device that gives no frame for so long hangs: FFmpeg has no time limit for its driver."""
STREAM_SECONDS = PICTURE_SECONDS + 2 * NETWORK_SECONDS
"""The same for a stream, whose time limits have ended it before, unless the resolver of names hangs."""
MAX_HANGING = 3
"""Threads that hang. With more of them, none is started before one has ended."""


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
    """Reads a camera in threads until ``close``.

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
        self._thread = threading.Thread(target=self._run, name="vlrun-watch", daemon=True)
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
        """End the threads."""
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
        delay, connections = FIRST_RETRY_SECONDS, list[_Connection]()
        while not self._closed.is_set():
            before, connection = self._count, _Connection(self._source, self._publish)
            problem = self._problem_of(connection)
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
            connections = [one for one in (*connections, connection) if one.is_alive()]
            while len(connections) >= MAX_HANGING and not self._closed.wait(FIRST_RETRY_SECONDS):
                connections = [one for one in connections if one.is_alive()]

    def _problem_of(self, connection: _Connection) -> BaseException:
        """Wait until a connection ends or hangs, and return why."""
        patience = DEVICE_SECONDS if self._source.host is None else STREAM_SECONDS
        while not (connection.ended.wait(WATCH_SECONDS) or self._closed.is_set()):
            with self._changed:
                if time.monotonic() - connection.latest > patience:
                    connection.wanted = False
                    what = "sends nothing any more" if connection.frames else "does not answer"
                    return MediaNotFound(f"'{self._source.name}' {what}, for {patience:g} s")
        return connection.problem

    def _publish(self, connection: _Connection, frame: VideoFrame) -> bool:
        """Keep a frame as the newest one, and return whether another one is wanted."""
        with self._changed:
            if not connection.wanted or self._closed.is_set():
                return False
            self._count += 1
            self._newest = ReadFrame(self._count, datetime.now().astimezone(), time.monotonic(), frame)
            connection.frames, connection.latest = connection.frames + 1, self._newest.monotonic
            self._changed.notify_all()
            return True

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()


class _Connection(threading.Thread):
    """Reads a camera until the stream ends, or a frame is not wanted any more.

    Attributes:
        wanted: Whether anybody waits for its frames.
        frames: Number of frames.
        latest: Time of the last frame, or of the beginning (``time.monotonic``).
        ended: Set at the end.
        problem: Why it has ended.
    """

    def __init__(self, source: CameraSource, publish: Callable[[_Connection, VideoFrame], bool]) -> None:
        super().__init__(name="vlrun-camera", daemon=True)
        self.wanted = True
        self.frames = 0
        self.latest = time.monotonic()
        self.ended = threading.Event()
        self.problem: BaseException = MediaNotFound(f"the stream of '{source.name}' has ended")
        self._source = source
        self._publish = publish
        self.start()

    def run(self) -> None:
        """Read."""
        try:
            with opened_camera(self._source) as frames:
                for frame in frames:
                    if not self._publish(self, frame):
                        break
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self.problem = error.with_traceback(None)
        finally:
            self.ended.set()
