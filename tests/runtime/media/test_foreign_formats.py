"""Files of formats that vlrun does not read are called by their name."""

from __future__ import annotations

import io

import pytest
from PIL import Image as PILImage

from vlrun.errors import UnsupportedMedia
from vlrun.media.foreign_formats import foreign_format, is_heif, is_pdf, is_video
from vlrun.media.image import FORMATS, open_image


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg">', "an SVG drawing"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a shop --><svg>', "an SVG drawing"),
    ],
)
def test_a_file_of_another_format_is_named(content: bytes, kind: str) -> None:
    with pytest.raises(UnsupportedMedia) as raised:
        open_image(content + b"\0" * 100)
    assert str(raised.value) == f"the image is {kind}, which vlrun cannot read: make a JPEG or PNG of it"


@pytest.mark.parametrize(
    "content",
    [
        b"\0\0\0\x18ftypisom\0\0\0\0isommp41",
        b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
        b"\0\0\x10\0moov\0\0\0\x6cmvhd",
        b"\x1aE\xdf\xa3\x9fB\x86\x81\x01",
        b"RIFF\0\0\0\0AVI LIST",
        b"FLV\x01\5\0\0\0\x09",
        b"\0\0\x01\xba\x44",
        b"OggS\0\2",
        (b"G" + b"\0" * 187) * 3,
        (b"\0" * 4 + b"G" + b"\0" * 187) * 3,
    ],
)
def test_a_video_is_no_image(content: bytes) -> None:
    """It was "not an image, or its header is damaged"."""
    assert is_video(content)
    with pytest.raises(UnsupportedMedia, match=r"the image is a video, not an image; vlrun\.open_video opens it"):
        open_image(content + b"\0" * 100)


@pytest.mark.parametrize(
    ("content", "heif"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", True),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", True),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", False),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", False),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", False),
        (b"\0\0\0\x18ftyp", False),
    ],
)
def test_photos_of_phones_are_recognized(content: bytes, heif: bool) -> None:
    """AVIF has the same container, and brands of HEIF."""
    assert is_heif(content) == heif


def test_a_pdf_is_recognized_behind_other_text() -> None:
    assert is_pdf(b"%PDF-1.7\n")
    assert is_pdf(b"\x1b%-12345X@PJL JOB\n%PDF-1.4")
    assert not is_pdf(b"\xff\xd8\xff\xe1 made of a %PDF-1.4")
    assert not is_pdf(b" " * 2000 + b"%PDF-1.4")


@pytest.mark.parametrize("format_name", [name for name in FORMATS if name != "HEIF"])
def test_images_that_vlrun_reads_are_not_foreign(format_name: str) -> None:
    encoded = io.BytesIO()
    PILImage.new("RGB", (8, 8)).save(encoded, format_name)
    assert foreign_format(encoded.getvalue()) is None
    assert not is_video(encoded.getvalue())


@pytest.mark.parametrize("content", [b"", b"<", b"<html>", b"\0\0\0\x18ftyp", b"notes", b"MZ" + b"\0" * 50])
def test_what_nobody_knows_is_not_foreign(content: bytes) -> None:
    assert foreign_format(content) is None
    assert not is_video(content)
