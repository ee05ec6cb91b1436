"""``vlrun.Camera``: the newest frame of a stream as an image."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

import vlrun
from vlrun.errors import MediaNotFound, MissingExtra, OptionError, VlrunError
from vlrun.media import camera as camera_module
from vlrun.media import camera_reader

pytest.importorskip("av", reason="the extra video is not installed")

from tests.streams import HEIGHT, WIDTH, StreamServer, clip, number_of


@pytest.fixture(scope="module")
def server() -> Iterator[StreamServer]:
    serving = StreamServer()
    yield serving
    serving.close()


def test_frames_are_images_with_a_time(server: StreamServer) -> None:
    with vlrun.Camera(server.add("/a", clip(60), silent=True)) as camera:
        frame = next(camera.frames())
    assert frame.image.size == (WIDTH, HEIGHT)
    assert frame.image == vlrun.open_image(frame.image.rgb)
    assert frame.time.utcoffset() is not None
    assert camera.name == f"http://127.0.0.1:{server.port}/a"


def test_a_slow_answer_causes_no_delay(server: StreamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream sends all frames at once. The second frame that is taken is among the last ones."""
    with vlrun.Camera(server.add("/b", clip(68), silent=True)) as camera:
        frames, newer, numbers = camera.frames(), camera._reader.newer, list[int]()

        def recorded(number: int) -> camera_reader.ReadFrame | None:
            if (read := newer(number)) is not None:
                numbers.append(read.number)
            return read

        next(frames)
        newer(60)  # waits until that many were read
        monkeypatch.setattr(camera._reader, "newer", recorded)
        assert number_of(next(frames).image.rgb) == (numbers[0] - 1) % 10
        assert numbers[0] > 60


def test_only_frames_that_changed(server: StreamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "CHECK_SECONDS", 0.0)
    black, white = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    shown = iter([black, black, black, white, white, black])
    with vlrun.Camera(server.add("/c", clip(60), silent=True)) as camera:
        reads = iter(range(1, 7))

        class Decoded:
            def to_ndarray(self, **_: str) -> np.ndarray:
                return next(shown)

        def newer(_: int) -> camera_reader.ReadFrame | None:
            number = next(reads, None)
            if number is None:
                return None
            return camera_reader.ReadFrame(number, None, float(number), Decoded())  # type: ignore[arg-type]

        monkeypatch.setattr(camera._reader, "newer", newer)
        seen = [int(frame.image.rgb.mean()) for frame in camera.frames(on_change=True)]
    assert seen == [0, 255, 0]


def test_the_time_between_frames(server: StreamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    with vlrun.Camera(server.add("/d", clip(60), wait=0.01, silent=True)) as camera:

        def wait(seconds: float) -> bool:
            pauses.append(seconds)
            return len(pauses) > 3

        monkeypatch.setattr(camera._reader, "wait", wait)
        assert len(list(camera.frames(5.0))) == 3
    assert pauses[0] == 0.0
    assert all(4 < pause <= 5 for pause in pauses[1:])


def test_closing_ends_the_frames(server: StreamServer) -> None:
    camera = vlrun.Camera(server.add("/e", clip(60), silent=True))
    frames = camera.frames()
    next(frames)
    threading.Timer(0.1, camera.close).start()
    assert list(frames) is not None
    camera.close()
    assert list(camera.frames()) == []


def test_a_stream_that_ends_goes_on(server: StreamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_reader, "FIRST_RETRY_SECONDS", 0.01)
    errors: list[str] = []
    url = server.add("/f", clip(60))
    with vlrun.Camera(url, lambda error: errors.append(str(error))) as camera:
        for _ in camera.frames():
            if len(errors) >= 2:
                break
    assert errors[:2] == [f"the stream of '{url}' has ended"] * 2


def test_errors_before_the_first_frame(server: StreamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with vlrun.Camera(f"http://127.0.0.1:{server.port}/none") as camera, pytest.raises(MediaNotFound, match="exist"):
        next(camera.frames())
    with pytest.raises(MediaNotFound, match="there is no camera"):
        vlrun.Camera("/dev/video99")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtra):
        vlrun.Camera("rtsp://cam/live")


@pytest.mark.parametrize("every", [-1, float("nan"), float("inf"), "5", None, True])
def test_wrong_times(server: StreamServer, every: object) -> None:
    with vlrun.Camera(server.add("/g", [], silent=True)) as camera, pytest.raises(OptionError, match="every must be"):
        camera.frames(every)  # type: ignore[arg-type]


def test_wrong_arguments() -> None:
    with pytest.raises(OptionError, match="on_error must be a function"):
        vlrun.Camera("rtsp://cam/live", 5)  # type: ignore[arg-type]
    with pytest.raises(VlrunError, match="a camera is a device"):
        vlrun.Camera("clip.mp4")
