"""The thread that reads a camera, with made-up streams: only the newest frame is kept, and it connects again."""

from __future__ import annotations

import gc
import itertools
import queue
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.runtime.server.http_client import wait_until
from vlrun.errors import MediaError, MediaNotFound, OutputError, UnsupportedMedia
from vlrun.media import camera_reader
from vlrun.media.camera_reader import MAX_HANGING, MAX_RETRY_SECONDS, CameraReader
from vlrun.media.camera_source import CameraSource

SOURCE = CameraSource("rtsp://u:p@cam", "rtsp://cam", "rtsp", {})
LOST = MediaNotFound("lost")


class Decoded:
    """A frame; PyAV's cannot be made up."""


class FakeCamera:
    """Streams that a test feeds: each connection yields what is put, until an error or None, which is its end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fed: queue.Queue[Any] = queue.Queue()
        self.connections = 0
        self.opened = threading.Semaphore(0)
        self.read = threading.Semaphore(0)
        monkeypatch.setattr(camera_reader, "opened_camera", self.open)

    @contextmanager
    def open(self, source: CameraSource) -> Iterator[Iterator[Any]]:
        assert source is SOURCE
        self.connections += 1
        self.opened.release()
        yield self.frames()

    def frames(self) -> Iterator[Any]:
        while (given := self.fed.get()) is not None:
            if isinstance(given, BaseException):
                raise given
            yield given
            del given
            self.read.release()

    def feed(self, *given: object) -> None:
        for one in given:
            self.fed.put(one)

    def feed_and_wait(self, count: int) -> None:
        self.feed(*(Decoded() for _ in range(count)))
        for _ in range(count):
            assert self.read.acquire(timeout=10)


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> FakeCamera:
    monkeypatch.setattr(camera_reader, "FIRST_RETRY_SECONDS", 0.001)
    return FakeCamera(monkeypatch)


@pytest.fixture
def errors() -> queue.Queue[MediaError]:
    return queue.Queue()


@pytest.fixture
def reader(camera: FakeCamera, errors: queue.Queue[MediaError]) -> Iterator[CameraReader]:
    opened = CameraReader(SOURCE, errors.put)
    yield opened
    opened.close()
    camera.feed(None)


def number(reader: CameraReader, after: int) -> int:
    newest = reader.newer(after)
    assert newest is not None
    return newest.number


def test_only_the_newest_frame_is_kept(camera: FakeCamera, reader: CameraReader) -> None:
    frames = [Decoded() for _ in range(20)]
    alive = weakref.WeakSet(frames)
    camera.feed(*frames)
    for _ in range(20):
        assert camera.read.acquire(timeout=10)
    frames.clear()
    gc.collect()
    assert len(alive) <= 2  # the newest, and the one in the thread's hands
    assert number(reader, 0) == 20
    camera.feed_and_wait(1)
    assert number(reader, 20) == 21


def test_it_waits_for_a_frame_that_is_newer(camera: FakeCamera, reader: CameraReader) -> None:
    camera.feed_and_wait(1)
    threading.Timer(0.05, camera.feed, [Decoded()]).start()
    newest = reader.newer(1)
    assert newest is not None
    assert newest.number == 2
    assert newest.time.tzinfo is not None


@pytest.mark.parametrize("end", [None, LOST])
def test_a_stream_that_ends_is_opened_again(
    camera: FakeCamera, reader: CameraReader, errors: queue.Queue[MediaError], end: MediaError | None
) -> None:
    for connection in range(1, 4):
        camera.feed_and_wait(1)
        assert number(reader, connection - 1) == connection
        camera.feed(end)
        assert str(errors.get(timeout=10)) == ("lost" if end else "the stream of 'rtsp://cam' has ended")
    assert camera.connections >= 3


def test_a_frame_from_before_an_interruption_is_not_used_after_it(
    camera: FakeCamera, reader: CameraReader, errors: queue.Queue[MediaError]
) -> None:
    camera.feed_and_wait(1)
    camera.feed(LOST)
    errors.get(timeout=10)
    threading.Timer(0.05, camera.feed, [Decoded()]).start()
    assert number(reader, 0) == 2


def test_attempts_become_rarer_and_are_reported_once(
    camera: FakeCamera, reader: CameraReader, errors: queue.Queue[MediaError], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    done = threading.Event()

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        if len(waited) == 8:
            done.set()
        return False

    monkeypatch.setattr(camera_reader, "FIRST_RETRY_SECONDS", 1.0)
    monkeypatch.setattr(reader._closed, "wait", wait)
    camera.feed_and_wait(1)
    camera.feed(*itertools.repeat(LOST, 6), Decoded(), LOST, LOST)
    assert done.wait(10)
    assert waited[1:8] == [2, 4, 8, 16, MAX_RETRY_SECONDS, 1, 2]
    assert errors.qsize() == 2


@pytest.mark.parametrize("error", [LOST, UnsupportedMedia("only sound"), RuntimeError("bug")])
def test_an_error_before_the_first_frame_is_final(
    camera: FakeCamera, reader: CameraReader, errors: queue.Queue[MediaError], error: Exception
) -> None:
    camera.feed(error)
    for _ in range(2):
        with pytest.raises(type(error), match=str(error)):
            reader.newer(0)
    assert errors.empty()
    assert camera.connections == 1


def test_an_error_of_the_callback_reaches_the_caller(camera: FakeCamera) -> None:
    def full(_: MediaError) -> None:
        raise OutputError("the disk is full")

    reader = CameraReader(SOURCE, full)
    camera.feed_and_wait(1)
    assert number(reader, 0) == 1
    camera.feed(LOST)
    with pytest.raises(OutputError, match="the disk is full"):
        reader.newer(1)


def test_closing_ends_the_wait_and_the_thread(camera: FakeCamera, errors: queue.Queue[MediaError]) -> None:
    reader = CameraReader(SOURCE, errors.put)
    threading.Timer(0.05, reader.close).start()
    assert reader.newer(0) is None
    camera.feed(Decoded())
    reader._thread.join(10)
    assert not reader._thread.is_alive()
    assert reader.newer(0) is None
    assert errors.empty()


def camera_threads() -> list[camera_reader._Connection]:
    return [thread for thread in threading.enumerate() if isinstance(thread, camera_reader._Connection)]


def test_a_thread_that_waits_for_the_network_does_not_delay_closing(camera: FakeCamera, reader: CameraReader) -> None:
    assert camera.opened.acquire(timeout=10)
    reader.close()
    reader._thread.join(10)
    assert not reader._thread.is_alive()
    assert len(camera_threads()) == 1
    camera.feed(LOST)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_reader, "STREAM_SECONDS", 0.05)
    monkeypatch.setattr(camera_reader, "WATCH_SECONDS", 0.01)


@pytest.mark.usefixtures("impatient")
def test_a_camera_that_hangs_is_reported_once_and_opened_again(
    camera: FakeCamera, reader: CameraReader, errors: queue.Queue[MediaError]
) -> None:
    """The driver of a camera that was unplugged may never return from a read."""
    camera.feed_and_wait(1)
    assert str(errors.get(timeout=10)) == "'rtsp://cam' sends nothing any more, for 0.05 s"
    for _ in range(MAX_HANGING):
        assert camera.opened.acquire(timeout=10)
    wait_until(lambda: not any(thread.wanted for thread in camera_threads()))
    assert not camera.opened.acquire(timeout=0.1)  # no thread more while all of them hang
    assert len(camera_threads()) == MAX_HANGING
    camera.feed(Decoded())  # one comes back: what it has read is too old
    assert camera.opened.acquire(timeout=10)
    assert reader._count == 1
    camera.feed(*(Decoded() for _ in range(MAX_HANGING)))  # all others hang but the new one
    assert number(reader, 1) >= 2
    assert errors.empty()


@pytest.mark.usefixtures("impatient")
def test_a_camera_that_never_answers_is_an_error(camera: FakeCamera, reader: CameraReader) -> None:
    with pytest.raises(MediaNotFound, match=r"'rtsp://cam' does not answer, for 0.05 s"):
        reader.newer(0)
    camera.feed(None)
