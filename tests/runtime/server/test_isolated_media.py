"""Which files are opened in a process of their own, and what is known about them without it."""

from __future__ import annotations

import io

import pytest
from PIL import Image as PILImage
from PIL import features

from tests.paths import EXAMPLES
from tests.runtime.media.pdf_files import pdf
from vlrun.errors import MediaTooLarge, UnsupportedMedia
from vlrun.server import isolated_media
from vlrun.server.isolated_media import kind_of, media_types, photo_size
from vlrun.server.limits import ServerLimits

HEIC = (EXAMPLES / "shelf.heic").read_bytes()


def test_the_bytes_decide_which_files_are_opened_elsewhere() -> None:
    assert kind_of(pdf()) == kind_of(b"\xef\xbb\xbf\r\n" + pdf()) == "document"
    assert kind_of(HEIC) == "photo"
    for name in ("shelf.png", "shelf.heic"):
        other = (EXAMPLES / name).read_bytes()[:64].replace(b"ftypheic", b"ftypisom").replace(b"ftypmif1", b"ftypisom")
        assert kind_of(other) == (None if name == "shelf.png" else "video")
    assert kind_of(b"") is None
    assert kind_of(b"\x89PNG\r\n\x1a\n\0%PDF-") is None


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_the_size_of_a_photo_comes_from_its_header() -> None:
    file = io.BytesIO()
    PILImage.new("RGB", (300, 200)).save(file, "AVIF")
    assert kind_of(file.getvalue()) == "photo"
    assert photo_size(file.getvalue(), ServerLimits()) == (300, 200)
    with pytest.raises(MediaTooLarge, match="more than 0 pixels"):
        photo_size(file.getvalue(), ServerLimits(max_megapixels=0))


@pytest.mark.parametrize("kept", [12, 40, 100])
def test_a_photo_without_a_size_is_refused(kept: int) -> None:
    with pytest.raises(UnsupportedMedia, match="does not state its size"):
        photo_size(HEIC[:kept], ServerLimits())


def test_media_types_are_those_of_the_installed_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_media, "find_spec", lambda name: object() if name == "pypdfium2" else None)
    assert media_types() == ("image/avif", "application/pdf")
    monkeypatch.setattr(isolated_media, "find_spec", lambda name: object() if name == "av" else None)
    assert "video/mp4" in media_types()
    monkeypatch.setattr(isolated_media, "find_spec", lambda _: None)
    assert media_types() == ("image/avif",)
