"""GIFs are checked before Pillow reads them: what it would skip slowly, and what it would fill with background."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrun.errors import MediaError, MediaTooLarge
from vlrun.media.gif_blocks import gif_size
from vlrun.media.image import ImageLimits, image_size, open_image

LIMITS = ImageLimits(formats=("GIF",), max_pixels=1_000_000, strict=True)


def gif(*blocks: bytes, size: tuple[int, int] = (1, 1), screen: tuple[int, int] = (1, 1)) -> bytes:
    """A GIF with an image of ``size`` behind ``blocks``."""
    image = b"," + struct.pack("<HHHHB", 0, 0, *size, 0) + b"\2\2\x4c\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + b"".join(blocks) + image + b";"


COMMENT = b"!\xfe"
PARTS = [gif()[6:19], gif()[19:-1], gif(size=(7, 9))[19:-1], COMMENT, b"\1a", b"\0", b"!\xf9\4\x09\0\0\0\0", b";", b"?"]


def test_a_gif_of_one_pixel() -> None:
    """The base of the tests below, also with a few comments and without its end."""
    assert open_image(gif(), LIMITS).size == (1, 1)
    assert open_image(gif(COMMENT, b"\xff" + b"a" * 255, b"\1a" * 100, b"\0"), LIMITS).size == (1, 1)
    assert open_image(gif()[:-1], LIMITS).size == (1, 1)


@pytest.mark.parametrize(
    "content",
    [
        gif(COMMENT, b"\1a" * 20_000, b"\0"),
        gif(COMMENT + b"\1a\0" * 1, *[COMMENT + b"\0"] * 20_000),
        gif(b"\1" * 20_000),
        gif()[:-2] + b"\1a" * 20_000 + b"\0;",
        gif()[:-1] + COMMENT + b"\1a" * 20_000 + b"\0" + gif()[19:],
    ],
    ids=["sub-blocks", "extensions", "no blocks", "pixels", "behind the pixels"],
)
def test_too_many_blocks_of_a_gif_are_refused(content: bytes) -> None:
    """15 MB of them take 10 s to skip, in Python."""
    with pytest.raises(MediaTooLarge, match="more than 10,000 blocks"):
        image_size(content, LIMITS)


@pytest.mark.parametrize("screen", [(1, 1), (9000, 9000)])
def test_a_gif_is_refused_by_its_size_before_its_pixels_are_filled(screen: tuple[int, int]) -> None:
    """Pillow filled the area of the first image with the background while it read the header: 81 MB for 40 bytes."""
    control = b"!\xf9\4\x08\0\0\0\0"  # restore to background
    with pytest.raises(MediaTooLarge, match="more than 1,000,000 pixels"):
        image_size(gif(control, size=(9000, 9000), screen=screen), LIMITS)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.lists(st.sampled_from(PARTS), max_size=8).map(b"".join))
def test_any_bytes_are_read_or_refused(rest: bytes) -> None:
    """The size is never smaller than what Pillow finds."""
    content = b"GIF89a" + rest
    try:
        width, height = image_size(content, LIMITS)
    except MediaError:
        return
    assert gif_size(content) == (width, height)
