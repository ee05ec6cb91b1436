"""Pictures as people have them: turned, transparent, deep, animated, broken, too large, or no pictures at all."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlrun.errors import DamagedMedia, MediaError, MediaNotFound, MediaTooLarge, UnsupportedMedia
from vlrun.media.image import MAX_FILE_BYTES, MAX_PIXELS, open_picture

RED = (200, 30, 40)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def half_red(width: int = 40, height: int = 30) -> Image.Image:
    """Left half red, right half white."""
    image = Image.new("RGB", (width, height), "white")
    image.paste(RED, (0, 0, width // 2, height))
    return image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_reads_every_named_format(kind: str, tmp_path: Path) -> None:
    """Guards the list of formats."""
    path = tmp_path / f"picture.{kind.lower()}"
    path.write_bytes(encoded(half_red(), kind))
    picture = open_picture(path)
    assert picture.size == (40, 30)
    assert np.abs(picture.rgb[5, 5].astype(int) - RED).max() < 12
    assert picture.rgb[5, 35].min() > 243


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_phone_photos_upright(orientation: int) -> None:
    """Guards EXIF orientation: all eight must show red on the left."""
    upright = half_red()
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = open_picture(encoded(stored, "PNG", exif=exif))
    np.testing.assert_array_equal(picture.rgb, np.asarray(upright))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_goes_on_white(mode: str) -> None:
    """Guards against black backgrounds: a cut-out product photo lies on white."""
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    if mode == "PA":
        picture = open_picture(encoded(image.quantize(4), "PNG"))
    else:
        picture = open_picture(encoded(image.convert(mode), "PNG"))
    assert picture.rgb[0, 0].tolist() == [0, 0, 0]
    assert picture.rgb[0, 7].tolist() == [255, 255, 255]


def test_palette_with_transparent_colour() -> None:
    """Guards the tRNS chunk of palette pictures."""
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 1), 1)
    assert open_picture(encoded(image, "PNG", transparency=0)).rgb[0, 0].tolist() == [255, 255, 255]


def test_cmyk_and_grey() -> None:
    """Guards print files and scans."""
    cmyk = open_picture(encoded(half_red().convert("CMYK"), "JPEG", quality=95))
    assert np.abs(cmyk.rgb[5, 5].astype(int) - RED).max() < 12
    assert open_picture(encoded(half_red().convert("L"), "PNG")).rgb.shape == (30, 40, 3)
    assert open_picture(encoded(half_red().convert("1"), "PNG")).rgb[5, 35].tolist() == [255, 255, 255]


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    """Guards X-rays and scans: Pillow's own conversion turns most of them white."""
    ramp = np.linspace(0, 65535, 64 * 4).astype(np.uint16).reshape(4, 64)
    picture = open_picture(encoded(Image.fromarray(ramp), "PNG"))
    np.testing.assert_allclose(picture.rgb[..., 0], ramp / 257, atol=0.51)
    through = open_picture(encoded(Image.fromarray(ramp), "PNG", transparency=int(ramp[1, 2])))
    assert through.rgb[1, 2].tolist() == [255, 255, 255]
    assert (through.rgb != picture.rgb).any(-1).sum() == 1


def test_sixteen_bit_oddities() -> None:
    """Guards against holes where there are none, and against negatives: 16-bit colour whose transparent colour Pillow
    compares with 8 bits, and grey TIFF in which white is zero.
    """
    rows = b"".join(b"\0" + bytes.fromhex("120034005600") + bytes.fromhex("123456789abc") for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    transparent = bytes.fromhex("001200340056")
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )
    assert open_picture(png).rgb[0].tolist() == [[0x12, 0x34, 0x56], [0x12, 0x56, 0x9A]]
    grey = Image.fromarray(np.array([[0, 65535]], np.uint16))
    tiff = encoded(grey, "TIFF")
    assert open_picture(tiff).rgb[0, :, 0].tolist() == [0, 255]
    tag = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert tiff.count(tag) == 1
    assert open_picture(tiff.replace(tag, tag[:8] + bytes(4))).rgb[0, :, 0].tolist() == [255, 0]


def test_a_picture_without_pixels() -> None:
    """Guards against a division by zero."""
    with pytest.raises(DamagedMedia, match="has no pixels"):
        open_picture(Image.new("RGB", (0, 5)))


def test_animation_uses_first_frame_and_says_so() -> None:
    """Guards against a silent choice among frames."""
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue", "lime")]
    for kind in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        picture = open_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        assert picture.rgb[0, 0].tolist() == [255, 0, 0]
        assert "3 frames; only the first" in picture.notes[0]


def test_hash_covers_size_and_pixels() -> None:
    """Guards the cache's key: same bytes in another shape, or one changed pixel, is another picture."""
    flat = np.zeros((30, 100, 3), np.uint8)
    changed = flat.copy()
    changed[29, 99, 2] = 1
    hashes = {open_picture(a).sha256 for a in (flat, flat.reshape(100, 30, 3), changed)}
    assert len(hashes) == 3
    assert open_picture(encoded(Image.fromarray(flat), "PNG")).sha256 == open_picture(flat).sha256


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_cut_short_or_flipped_is_told(kind: str) -> None:
    """Guards against stack traces: whatever a broken file makes Pillow raise ends as a MediaError."""
    rng = np.random.default_rng(7)
    good = encoded(Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)), kind)
    for cut in range(0, len(good) - 1, max(1, len(good) // 60)):
        _picture_or_media_error(good[:cut])
    for _ in range(150):
        broken = bytearray(good)
        for place in rng.integers(0, min(len(good), 400), 3):
            broken[place] = rng.integers(0, 256)
        _picture_or_media_error(bytes(broken))


def _picture_or_media_error(data: bytes) -> None:
    with contextlib.suppress(MediaError):
        open_picture(data)


def test_truncated_jpeg_is_no_picture() -> None:
    """Guards against grey lower halves: a photo cut short by a power cut is refused."""
    good = encoded(half_red(400, 300), "JPEG")
    with pytest.raises(DamagedMedia, match="damaged or cut short"):
        open_picture(good[: len(good) // 2])


@pytest.mark.parametrize("side", [13_000, 60_000])
def test_bomb_is_refused_before_decoding(side: int) -> None:
    """Guards memory: the header alone decides. The body would decode to half a gigabyte and more."""
    ihdr = side.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    chunks = [(b"IHDR", ihdr), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big") for name, body in chunks
    )
    with pytest.raises(MediaTooLarge, match="pixels"):
        open_picture(png)


def test_limits_of_arrays_and_bytes(tmp_path: Path) -> None:
    """Guards the other two ways in, and the limit in bytes on a sparse file."""
    with pytest.raises(UnsupportedMedia, match="uint8"):
        open_picture(np.zeros((4, 4), np.uint8))
    with pytest.raises(MediaTooLarge):
        open_picture(np.broadcast_to(np.zeros(3, np.uint8), (MAX_PIXELS // 1000 + 1, 1000, 3)))
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(MediaTooLarge, match="more than 67,108,864 bytes"):
        open_picture(large)


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", DamagedMedia), *((bytes(text, "ascii"), UnsupportedMedia) for text in ("hello", "%PDF-1.7\n", "<svg/>"))],
)
def test_no_picture_at_all(content: bytes, error: type[MediaError], tmp_path: Path) -> None:
    """Guards the sentence for things that are no pictures."""
    path = tmp_path / "thing.png"
    path.write_bytes(content)
    with pytest.raises(error, match=r"thing\.png"):
        open_picture(path)


def test_paths_that_cannot_be_opened(tmp_path: Path) -> None:
    """Guards missing files, folders, addresses and impossible names."""
    for path in (tmp_path / "none.jpg", tmp_path, "https://example.org/a.jpg", "a\0b", "x" * 5000):
        with pytest.raises(MediaNotFound):
            open_picture(path)


def test_what_is_no_source_at_all() -> None:
    """Guards Python callers: a wrong type, or a lazy Pillow image that breaks when it is read, is a MediaError."""
    with pytest.raises(UnsupportedMedia, match="not NoneType"):
        open_picture(None)  # type: ignore[arg-type]
    whole = encoded(half_red(400, 300), "JPEG")
    with Image.open(io.BytesIO(whole[: len(whole) // 2])) as lazy, pytest.raises(DamagedMedia):
        open_picture(lazy)
