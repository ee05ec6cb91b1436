"""Images whose headers are read before they are decoded."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.runtime.media.test_image import END, encode, half_red, header, png
from vlrun.errors import DamagedMedia, OptionError, UnsupportedMedia
from vlrun.media.image import ImageSource, open_image
from vlrun.media.pending_image import MAX_IMAGES, PendingImage, open_images, read_headers

PNG = encode(half_red(), "PNG")


def sources(folder: Path) -> list[ImageSource]:
    path = folder / "image.png"
    path.write_bytes(PNG)
    return [path, str(path), PNG, bytearray(PNG), half_red(), np.asarray(half_red()), open_image(PNG)]


def test_every_source_has_a_size_and_opens(tmp_path: Path) -> None:
    for source in sources(tmp_path):
        pending = PendingImage(source)
        assert (pending.size, pending.pixels) == ((40, 30), 1200)
        for _ in range(2):
            with pending.opened() as image:
                assert image.sha256 == open_image(PNG).sha256


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_a_pillow_image_without_pixels_is_refused_before_its_tokens_are_counted(size: tuple[int, int]) -> None:
    """It was a ZeroDivisionError."""
    with pytest.raises(DamagedMedia, match="the image has no pixels"):
        read_headers([PILImage.new("RGB", size)])


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """As in ``vlrun ask <(convert ...)``."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(PNG,))
    writer.start()
    (image,) = open_images([path])
    writer.join()
    assert image.size == (40, 30)


def test_headers_are_read_before_pixels() -> None:
    """The last header is refused although the first image cannot be decoded."""
    damaged = png(header(10, 10), END)
    with pytest.raises(UnsupportedMedia):
        read_headers([damaged, b"no image"])
    with pytest.raises(OptionError, match=f"at most {MAX_IMAGES}"):
        read_headers([damaged] * (MAX_IMAGES + 1))
    (pending,) = read_headers([damaged])
    assert isinstance(pending, PendingImage)
    with pytest.raises(DamagedMedia), pending.opened():
        pass


def test_a_rotated_image_is_sized_before_rotation() -> None:
    """The number of visual tokens is the same."""
    exif = PILImage.Exif()
    exif[0x0112] = 6
    pending = PendingImage(encode(half_red(), "JPEG", exif=exif))
    assert pending.size == (40, 30)
    with pending.opened() as image:
        assert image.size == (30, 40)
