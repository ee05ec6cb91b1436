"""Where images come from: paths, file URLs, pipes, buffers, open files, closed ones."""

from __future__ import annotations

import http.client
import io
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from vlrun.errors import MediaError, MediaNotFound, MediaTooLarge, UnsupportedMedia
from vlrun.media.image import ImageLimits, open_image


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a b%é#?.png"
    PILImage.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)).save(path)
    return path


def test_file_urls_of_this_machine_are_opened(picture: Path) -> None:
    expected = open_image(picture).sha256
    quoted = picture.as_uri().removeprefix("file://")
    for url in (f"file://{quoted}", f"file:{quoted}", f"FILE://localhost{quoted}", Path(f"file:{quoted}")):
        assert open_image(url).sha256 == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file://server/share/a.png", "names the machine 'server'"),
        ("file://shelf.png/", "names the machine 'shelf.png'"),
        ("file:///no/such.png", "no such image"),
        ("file:///", "is a folder"),
        ("file:///a%00b.png", "not a path"),
        ("https://example.org/a.png", "is a URL"),
        ("data:image/png;base64," + "A" * 10_000, "is a URL"),
        ("", "is empty"),
    ],
)
def test_other_urls_are_told_as_such(url: str, reason: str) -> None:
    with pytest.raises(MediaNotFound, match=reason) as told:
        open_image(url)
    assert len(str(told.value)) < 400


def test_files_and_buffers_are_read_from_their_beginning(picture: Path) -> None:
    """``image.save(buffer)`` leaves the position at the end."""
    expected, encoded = open_image(picture).sha256, picture.read_bytes()
    buffer = io.BytesIO()
    buffer.write(encoded)
    assert open_image(buffer).sha256 == expected
    assert buffer.tell() == len(encoded)
    with picture.open("rb") as file:
        file.seek(3)
        assert open_image(file).sha256 == expected
        assert file.tell() == 3
    with picture.open("rb", buffering=0) as raw, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(encoded)
        assert open_image(raw).sha256 == open_image(spooled).sha256 == expected
    assert open_image(memoryview(encoded)).sha256 == expected  # type: ignore[arg-type]


def write_and_close(file: Any, content: bytes) -> None:
    file.write(content)
    file.close()


def test_a_pipe_is_read_to_its_end_within_the_limit(picture: Path, tmp_path: Path) -> None:
    """A pipe has no size, and gives its bytes in parts."""
    expected, encoded = open_image(picture).sha256, picture.read_bytes()
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as read_end, os.fdopen(writer, "wb", buffering=0) as write_end:
        threads = [threading.Thread(target=lambda: write_and_close(write_end, encoded))]
        fifo = tmp_path / "fifo.png"
        os.mkfifo(fifo)
        threads.append(threading.Thread(target=lambda: fifo.write_bytes(encoded)))
        for thread in threads:
            thread.start()
        assert open_image(read_end).sha256 == open_image(fifo).sha256 == expected
        for thread in threads:
            thread.join()


def test_endless_sources_are_read_up_to_the_limit() -> None:
    limits, zeros = ImageLimits(max_bytes=1000), Path("/dev/zero")
    with zeros.open("rb", buffering=0) as file:
        for endless in (zeros, file, io.BytesIO(bytes(2000)), bytes(2000)):
            with pytest.raises(MediaTooLarge, match="more than 1,000 bytes"):
                open_image(endless, limits)
    with pytest.raises(MediaError, match="more bytes than it was asked for"):
        open_image(Odd(bytes(2000)), limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [EOFError("too short"), KeyError("x"), http.client.IncompleteRead(b"")])
def test_a_file_that_fails_in_its_own_way_cannot_be_read(error: Exception) -> None:
    """A gzip file that is cut short raises EOFError, an HTTP response an HTTPException."""

    class Failing(io.RawIOBase):
        def read(self, _: int = -1) -> bytes:
            raise error

    with pytest.raises(MediaNotFound, match="cannot read the image"):
        open_image(Failing())  # type: ignore[arg-type]


def test_a_released_buffer_cannot_be_read() -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(MediaNotFound, match="released"):
        open_image(view)  # type: ignore[arg-type]


class Odd:
    """A file whose ``read`` returns something else."""

    def __init__(self, returned: object) -> None:
        self.returned = returned

    def read(self, _: int) -> object:
        return self.returned


def closed(source: Any) -> Any:
    source.close()
    return source


def closed_below(path: Path) -> PILImage.Image:
    with path.open("rb") as file:
        return PILImage.open(file)


REASONS: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: closed(io.BytesIO(b"x")), "the file is closed"),
    (lambda path: closed(path.open("rb")), "the file is closed"),
    (lambda path: closed(PILImage.open(path)), "the image is closed"),
    (lambda path: closed(PILImage.new("RGB", (4, 4))), "the image is closed"),
    (closed_below, "the image is closed"),
    (lambda path: io.StringIO("x"), "binary mode"),
    (lambda path: Odd(None), "NoneType instead of bytes"),
    (lambda path: io.BytesIO(), "is empty"),
    (lambda path: np.int64(5), "not int64"),
    (lambda path: 5, "not int"),
    (lambda path: None, "not NoneType"),
    (lambda path: [path], "not list"),
]


@pytest.mark.parametrize(("source", "reason"), REASONS, ids=range(len(REASONS)))
def test_the_reason_is_the_right_one(picture: Path, source: Callable[[Path], Any], reason: str) -> None:
    """A closed Pillow image was called damaged."""
    with pytest.raises(MediaError, match=reason):
        open_image(source(picture))


def test_a_text_file_is_not_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x")
    with path.open() as file, pytest.raises(UnsupportedMedia, match=r"a\.txt' gives text"):
        open_image(file)  # type: ignore[arg-type]
