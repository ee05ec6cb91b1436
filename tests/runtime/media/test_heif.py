"""HEIC photos, read with pi-heif."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vlrun.errors import DamagedMedia, MediaTooLarge, MissingExtra, UnsupportedMedia
from vlrun.media.heif import stated_size
from vlrun.media.image import ImageLimits, image_size, open_image

pytest.importorskip("pi_heif", reason="the extra heic is not installed")

HEIC = base64.b64decode(
    """
    AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAA
    AAAERAAAEAAQAAAAABoQABAAAAAAAAAGoAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAA
    AADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkA
    AAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAA
    AAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAH
    JtZGF0AAAAZigBrxOA+BDhp//8TSj/+nXPD9PMiYn/+tNSR/hUO//WicPySkWzrHl9nv8H4h1KpEq3xpK+HfM2sf+d4tvFAhneIy6JZXLEP+zl
    xMa+qdw77mN6fapRbf83mqG4xuGn3Gx6O58SuA==
    """
)
"""64 x 48 pixels, left half red, right half blue. Written by pillow-heif, as the other ones."""
ROTATED = base64.b64decode(
    """
    AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9jAA
    AAAERAAAIAAQAAAAAB7AABAAAAAAAAAGoAAgAAAAACVgABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVp
    bmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcnAAAADmaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGE
    ABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkA
    AAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEH
    BpeGkAAAAAAwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEAAQaBAgMFhIYAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAJZtZGF0AAAA
    ZigBrxOA+BDhp//8TSj/+nXPD9PMiYn/+tNSR/hUO//WicPySkWzrHl9nv8H4h1KpEq3xpK+HfM2sf+d4tvFAhneIy6JZXLEP+zlxMa+qdw77m
    N6fapRbf83mqG4xuGn3Gx6O58SuAAAAAZFeGlmAABNTQAqAAAACAABARIAAwAAAAEABgAAAAAAAA==
    """
)
"""The same, to be turned by 90 degrees."""
BURST = base64.b64decode(
    """
    AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAaxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9jAA
    AAAERAAAIAAQAAAAAB0AABAAAAAAAAAGoAAgAAAAACOgABAAAAAAAAAB0AAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVp
    bmZlAgAAAAACAABodmMxAAAAAA5waXRtAAAAAAABAAABBWlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGE
    ABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkA
    AAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEH
    BpeGkAAAAAAwgICAAAACBpcG1hAAAAAAAAAAIAAQWBAgMFhAACBYECAwWEAAAAj21kYXQAAABmKAGvE4D4EOGn//xNKP/6dc8P08yJif/601JH
    +FQ7/9aJw/JKRbOseX2e/wfiHUqkSrfGkr4d8zax/53i28UCGd4jLollcsQ/7OXExr6p3DvuY3p9qlFt/zeaobjG4afcbHo7nxK4AAAAGSgBrx
    OA9SeBP//ixUf/0fav/Nztfnny1PA=
    """
)
"""Two images."""


def assert_red_and_blue(rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    assert np.allclose(rgb[2, 2].astype(int), (255, 0, 0), atol=8)
    assert np.allclose(rgb[-3, -3].astype(int), (0, 0, 255), atol=8)


def test_a_photo_is_opened_upright() -> None:
    image = open_image(HEIC)
    assert (image.size, image.notes) == ((64, 48), ())
    assert_red_and_blue(image.rgb)
    assert image_size(HEIC) == (64, 48)
    rotated = open_image(ROTATED)
    assert rotated.size == (48, 64)
    assert_red_and_blue(rotated.rgb)  # above is red, below is blue


def test_of_several_images_the_main_one_is_used() -> None:
    image = open_image(BURST)
    assert_red_and_blue(image.rgb)
    assert image.notes == ("the image has several images; only the main one is used",)


@pytest.mark.parametrize("end", range(16, len(HEIC) - 1, 20))
def test_a_photo_that_was_cut_short_is_damaged(end: int) -> None:
    with pytest.raises(DamagedMedia, match="the image is damaged or cut short"):
        open_image(HEIC[:end])


@pytest.mark.slow
def test_any_byte_may_be_wrong() -> None:
    """In a process of its own: pi-heif crashed on an item whose type is not UTF-8."""
    code = (
        "import base64, contextlib, sys\n"
        "from vlrun.errors import MediaError\n"
        "from vlrun.media.image import open_image\n"
        "encoded = base64.b64decode(sys.stdin.read())\n"
        "for position in range(len(encoded)):\n"
        "    for change in (0x55, 0x80, 0xFF):\n"
        "        changed = bytearray(encoded); changed[position] ^= change\n"
        "        with contextlib.suppress(MediaError): open_image(changed)\n"
    )
    subprocess.run([sys.executable, "-c", code], input=base64.b64encode(HEIC), check=True)


def test_an_item_with_a_wrong_type_is_damage() -> None:
    with pytest.raises(DamagedMedia, match="the image is damaged or cut short"):
        open_image(HEIC.replace(b"hvc1", b"hv\xea1", 1))


def test_the_limits_hold() -> None:
    with pytest.raises(MediaTooLarge, match="more than 3,000 pixels"):
        open_image(HEIC, ImageLimits(max_pixels=3000))
    with pytest.raises(UnsupportedMedia, match="not an image that vlrun can read"):
        open_image(HEIC, ImageLimits(formats=("JPEG",)))


def test_without_the_extra_the_error_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif.as_plugin", None)
    (tmp_path / "a.heic").write_bytes(HEIC)
    with pytest.raises(MissingExtra) as caught:
        open_image(tmp_path / "a.heic")
    need = f"'{tmp_path / 'a.heic'}' is a HEIC photo, which needs another package"
    assert str(caught.value) == f"{need}: run pip install 'vlrun[heic]'"
    assert (caught.value.need, caught.value.extra) == (need, "heic")


def test_the_stated_size_is_read_without_a_decoder() -> None:
    assert stated_size(HEIC) == (64, 64)  # a part of it is shown
    for start in range(0, len(HEIC), 7):
        stated_size(HEIC[:start])
        stated_size(HEIC[start:])
    assert stated_size(b"") is None
    large = HEIC.replace(b"ispe\0\0\0\0\0\0\0\x40\0\0\0\x40", b"ispe\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff")
    assert stated_size(large) == (2**32 - 1, 2**32 - 1)
