"""JPEG files with more pixels than may be decoded."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.runtime.media.test_image import encode, half_red
from vlrun.cli.images import ImageOptions
from vlrun.errors import DamagedMedia, MediaTooLarge
from vlrun.media import jpeg_draft
from vlrun.media.image import ImageLimits, image_size, open_image
from vlrun.media.region import parse_region

LIMITS = ImageLimits(max_pixels=100_000)
SIZE = (1001, 402)


def gradient(size: tuple[int, int] = SIZE) -> PILImage.Image:
    return PILImage.linear_gradient("L").resize(size).convert("RGB")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(mode: str, progressive: bool) -> None:
    encoded = encode(gradient().convert(mode), "JPEG", quality=95, progressive=progressive)
    assert image_size(encoded, LIMITS) == SIZE
    image = open_image(encoded, LIMITS)
    assert image.size == (251, 101)  # a half would have 100,701 pixels
    assert image.notes == ("the image has 0 megapixels, and is decoded at 1/4 of its width and height",)
    assert image.to_original.size == SIZE
    assert image.to_original.point(251, 101) == SIZE
    expected = np.asarray(gradient(image.size)).astype(int)
    assert np.abs(expected - image.rgb).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_image(orientation: int) -> None:
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    image = open_image(encode(gradient(), "JPEG", exif=exif), LIMITS)
    assert image.to_original.size == (SIZE if orientation < 5 else SIZE[::-1])
    assert image.size == ((251, 101) if orientation < 5 else (101, 251))


def test_the_missing_end_of_a_large_jpeg_is_noticed() -> None:
    encoded = encode(gradient(), "JPEG", quality=95)
    assert open_image(encoded[:-2], LIMITS).size == (251, 101)  # it lacks only its end mark
    with pytest.raises(DamagedMedia):
        open_image(encoded[: len(encoded) // 2], LIMITS)


def test_what_cannot_be_reduced_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = encode(gradient(), "JPEG")
    for encoded, limits in (
        (encode(gradient(), "PNG"), LIMITS),
        (jpeg, ImageLimits(max_pixels=100_000, reduces=False)),
        (jpeg, ImageLimits(max_pixels=5000)),  # an eighth has 6,426
    ):
        with pytest.raises(MediaTooLarge, match=f"more than {limits.max_pixels:,} pixels"):
            open_image(encoded, limits)
    monkeypatch.setattr(jpeg_draft, "MAX_JPEG_PIXELS", 400_000)
    monkeypatch.setattr(jpeg_draft, "MAX_PROGRESSIVE_PIXELS", 300_000)
    for encoded in (jpeg, encode(gradient(), "JPEG", progressive=True)):
        with pytest.raises(MediaTooLarge):
            open_image(encoded, LIMITS)


def test_a_region_in_pixels_means_those_of_the_file() -> None:
    encoded = encode(half_red(1000, 400), "JPEG", quality=95)
    opened = open_image(encoded, LIMITS)
    assert opened.size == (500, 200)
    image = ImageOptions(parse_region("400,0,200,400")).apply(opened)
    assert image.size == (100, 200)
    assert image.to_original.box(0, 0, 100, 200) == (400, 0, 600, 400)


@pytest.mark.slow
def test_a_panorama_of_100_megapixels_stays_within_memory() -> None:
    """In a process of its own, for its peak. All its pixels would be 300 MB, and Pillow's conversion of them more."""
    encoded = encode(PILImage.new("RGB", (20_000, 5000), "white"), "JPEG")
    code = (
        "import resource, sys; from vlrun.media.image import open_image; before = resource.getrusage(0).ru_maxrss\n"
        "image = open_image(sys.stdin.buffer.read()); assert image.size == (10_000, 2500), image.size\n"
        "print((resource.getrusage(0).ru_maxrss - before) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=encoded, capture_output=True, check=True)
    assert int(done.stdout) < 350
