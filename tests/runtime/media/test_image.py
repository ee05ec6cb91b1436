"""Opening images: rotated, transparent, 16-bit, animated, damaged, too large, or not images."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlrun.errors import DamagedMedia, MediaError, MediaNotFound, MediaTooLarge, UnsupportedMedia
from vlrun.media.image import MAX_FILE_BYTES, MAX_PIXELS, ImageLimits, image_size, open_image

RED = (200, 30, 40)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def header(width: int, height: int, colours: int = 2, bits: int = 8) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)


PIXEL = (b"IDAT", zlib.compress(b"\0\1\2\3"))
END = (b"IEND", b"")


def half_red(width: int = 40, height: int = 30) -> Image.Image:
    """Return an image whose left half is red and whose right half is white."""
    image = Image.new("RGB", (width, height), "white")
    image.paste(RED, (0, 0, width // 2, height))
    return image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_supported_format_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{kind.lower()}"
    path.write_bytes(encode(half_red(), kind))
    image = open_image(path)
    assert image.size == (40, 30)
    assert np.abs(image.rgb[5, 5].astype(int) - RED).max() < 12
    assert image.rgb[5, 35].min() > 243


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """All eight orientations must show red on the left."""
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
    image = open_image(encode(stored, "PNG", exif=exif))
    np.testing.assert_array_equal(image.rgb, np.asarray(upright))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_becomes_white(mode: str) -> None:
    """Guards against black backgrounds of cut-out product photos."""
    source = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    source.paste((0, 0, 0, 255), (0, 0, 4, 8))
    if mode == "PA":
        image = open_image(encode(source.quantize(4), "PNG"))
    else:
        image = open_image(encode(source.convert(mode), "PNG"))
    assert image.rgb[0, 0].tolist() == [0, 0, 0]
    assert image.rgb[0, 7].tolist() == [255, 255, 255]


def test_transparent_palette_colours_become_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 1), 1)
    assert open_image(encode(image, "PNG", transparency=0)).rgb[0, 0].tolist() == [255, 255, 255]


def test_cmyk_grey_and_bilevel_images_are_read() -> None:
    cmyk = open_image(encode(half_red().convert("CMYK"), "JPEG", quality=95))
    assert np.abs(cmyk.rgb[5, 5].astype(int) - RED).max() < 12
    assert open_image(encode(half_red().convert("L"), "PNG")).rgb.shape == (30, 40, 3)
    assert open_image(encode(half_red().convert("1"), "PNG")).rgb[5, 35].tolist() == [255, 255, 255]


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    """Pillow's own conversion turns most of a 16-bit scan white."""
    ramp = np.linspace(0, 65535, 64 * 4).astype(np.uint16).reshape(4, 64)
    image = open_image(encode(Image.fromarray(ramp), "PNG"))
    np.testing.assert_allclose(image.rgb[..., 0], ramp / 257, atol=0.51)
    through = open_image(encode(Image.fromarray(ramp), "PNG", transparency=int(ramp[1, 2])))
    assert through.rgb[1, 2].tolist() == [255, 255, 255]
    assert (through.rgb != image.rgb).any(-1).sum() == 1


def test_16_bit_transparency_and_white_is_zero_tiffs_are_read() -> None:
    """Pillow compares a 16-bit transparent colour with 8-bit pixels, and ignores white-is-zero in 16-bit TIFFs."""
    rows = b"".join(b"\0" + bytes.fromhex("120034005600") + bytes.fromhex("123456789abc") for _ in range(2))
    transparent = (b"tRNS", bytes.fromhex("001200340056"))
    deep = png(header(2, 2, bits=16), transparent, (b"IDAT", zlib.compress(rows)), END)
    assert open_image(deep).rgb[0].tolist() == [[0x12, 0x34, 0x56], [0x12, 0x56, 0x9A]]
    grey = Image.fromarray(np.array([[0, 65535]], np.uint16))
    tiff = encode(grey, "TIFF")
    assert open_image(tiff).rgb[0, :, 0].tolist() == [0, 255]
    tag = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert tiff.count(tag) == 1
    assert open_image(tiff.replace(tag, tag[:8] + bytes(4))).rgb[0, :, 0].tolist() == [255, 0]


def test_an_image_without_pixels_is_refused() -> None:
    """Guards against a division by zero."""
    with pytest.raises(DamagedMedia, match="has no pixels"):
        open_image(Image.new("RGB", (0, 5)))


def test_animations_use_the_first_frame_and_add_a_note() -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue", "lime")]
    for kind in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        image = open_image(encode(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        assert image.rgb[0, 0].tolist() == [255, 0, 0]
        assert image.notes == ("the image has several frames; only the first is used",)


def test_hash_covers_size_and_pixels() -> None:
    """Equal bytes in another shape are another image."""
    flat = np.zeros((30, 100, 3), np.uint8)
    changed = flat.copy()
    changed[29, 99, 2] = 1
    hashes = {open_image(a).sha256 for a in (flat, flat.reshape(100, 30, 3), changed)}
    assert len(hashes) == 3
    assert open_image(encode(Image.fromarray(flat), "PNG")).sha256 == open_image(flat).sha256


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_truncated_or_corrupt_files_raise_only_media_errors(kind: str) -> None:
    rng = np.random.default_rng(7)
    good = encode(Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)), kind)
    for cut in range(0, len(good) - 1, max(1, len(good) // 60)):
        _image_or_media_error(good[:cut])
    for _ in range(150):
        broken = bytearray(good)
        for place in rng.integers(0, min(len(good), 400), 3):
            broken[place] = rng.integers(0, 256)
        _image_or_media_error(bytes(broken))


def _image_or_media_error(data: bytes) -> None:
    with contextlib.suppress(MediaError):
        open_image(data)


def test_truncated_jpeg_is_refused() -> None:
    """Guards against photos with a grey lower half."""
    good = encode(half_red(400, 300), "JPEG")
    with pytest.raises(DamagedMedia, match="damaged or cut short"):
        open_image(good[: len(good) // 2])


@pytest.mark.parametrize("side", [13_000, 60_000])
def test_decompression_bomb_is_refused_before_decoding(side: int) -> None:
    """The body would decode to half a gigabyte or more."""
    with pytest.raises(MediaTooLarge, match="pixels"):
        open_image(png(header(side, side), (b"IDAT", zlib.compress(b"\0" * 1000)), END))


def test_arrays_and_files_above_the_limits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia, match="uint8"):
        open_image(np.zeros((4, 4), np.uint8))
    with pytest.raises(MediaTooLarge):
        open_image(np.broadcast_to(np.zeros(3, np.uint8), (MAX_PIXELS // 1000 + 1, 1000, 3)))
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(MediaTooLarge, match="more than 67,108,864 bytes"):
        open_image(large)


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", DamagedMedia), *((bytes(text, "ascii"), UnsupportedMedia) for text in ("hello", "%PDF-1.7\n", "<svg/>"))],
)
def test_files_that_are_no_images_are_refused(content: bytes, error: type[MediaError], tmp_path: Path) -> None:
    path = tmp_path / "thing.png"
    path.write_bytes(content)
    with pytest.raises(error, match=r"thing\.png"):
        open_image(path)


def test_paths_that_cannot_be_opened_are_reported(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path, "https://example.org/a.jpg", "a\0b", "x" * 5000):
        with pytest.raises(MediaNotFound):
            open_image(path)


def test_unsupported_sources_are_refused() -> None:
    """A wrong type, or a lazy Pillow image that fails when it is read."""
    with pytest.raises(UnsupportedMedia, match="not NoneType"):
        open_image(None)  # type: ignore[arg-type]
    data = encode(half_red(400, 300), "JPEG")
    with Image.open(io.BytesIO(data[: len(data) // 2])) as lazy, pytest.raises(DamagedMedia):
        open_image(lazy)


SERVICE = ImageLimits(formats=("JPEG", "PNG", "WEBP", "BMP", "GIF"), max_pixels=1000 * 1000)
"""The limits of the service."""

BOMB = png(header(1000, 1001), (b"IDAT", b""), END)


def animation(kind: str, count: int = 3) -> bytes:
    frames = [Image.new("RGB", (9, 9), (80 * index, 0, 0)) for index in range(count)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "MPO"])
def test_size_is_read_from_the_header(kind: str) -> None:
    """A file cut after the header still has a size, if the format's directory precedes the pixels."""
    noise = np.random.default_rng(3).integers(0, 256, (90, 120, 3), np.uint8)
    whole = encode(Image.fromarray(noise), kind)
    assert image_size(whole) == open_image(whole).size == (120, 90)
    if kind in ("JPEG", "PNG", "BMP", "MPO"):
        cut = whole[: len(whole) // 2]
        assert image_size(cut, SERVICE) == (120, 90)
        with pytest.raises(DamagedMedia):
            open_image(cut, SERVICE)


@pytest.mark.parametrize(
    ("refused", "error", "message"),
    [
        (b"", DamagedMedia, "is empty"),
        (b"no image", UnsupportedMedia, r"can read \(JPEG, PNG, WEBP, BMP, GIF\)"),
        (encode(half_red(), "TIFF"), UnsupportedMedia, "can read"),
        (BOMB, MediaTooLarge, "more than 1,000,000 pixels"),
        (png(header(60_000, 60_000), PIXEL, END), MediaTooLarge, "more than 1,000,000 pixels"),
        (bytes(MAX_FILE_BYTES + 1), MediaTooLarge, "more than 67,108,864 bytes"),
    ],
    ids=["empty", "text", "tiff", "bomb", "pillow's bomb", "bytes"],
)
def test_reading_the_header_and_opening_give_the_same_error(
    refused: bytes, error: type[MediaError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=f"^the image .*{message}") as by_header:
        image_size(refused, SERVICE)
    with pytest.raises(error) as by_opening:
        open_image(refused, SERVICE)
    assert str(by_header.value) == str(by_opening.value)
    path = tmp_path / "image"
    path.write_bytes(refused)
    with pytest.raises(error, match=message):
        open_image(path, SERVICE)


def test_one_frame_is_no_animation() -> None:
    """An MPO's further frames do not count."""
    for whole in (animation("MPO"), encode(half_red(9, 9), "WEBP")):
        assert open_image(whole, SERVICE).size == image_size(whole, SERVICE) == (9, 9)
        assert not open_image(whole, SERVICE).notes
    frame = (b"fcTL", struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 1, 0, 0))
    assert open_image(png(header(1, 1), (b"acTL", struct.pack(">II", 1, 0)), frame, PIXEL, END), SERVICE).size == (1, 1)


def test_the_pixel_limit_applies_to_images_in_memory() -> None:
    """It cannot be raised above Pillow's own limit."""
    with pytest.raises(MediaTooLarge, match="the array has 1,001,000 pixels; the limit is 1,000,000"):
        open_image(np.zeros((1001, 1000, 3), np.uint8), SERVICE)
    with pytest.raises(MediaTooLarge, match="the image has 1,001,000 pixels; the limit is 1,000,000"):
        open_image(Image.new("RGB", (1001, 1000)), SERVICE)
    with pytest.raises(MediaTooLarge, match=f"more than {MAX_PIXELS:,} pixels"):
        image_size(png(header(13_000, 13_000), PIXEL, END), ImageLimits(max_pixels=10**9))


def test_pillows_own_limit_raises_media_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if another library changes Pillow's limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600_000)
    with pytest.raises(MediaTooLarge):
        image_size(BOMB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400_000)
    with pytest.raises(MediaTooLarge):
        image_size(BOMB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(MediaTooLarge):
        image_size(BOMB, SERVICE)


def test_any_decoder_exception_becomes_a_media_error() -> None:
    """Found by fuzzing: a palette image without a palette (AssertionError)."""
    with pytest.raises(DamagedMedia):
        open_image(png(header(1, 1, colours=3), (b"IDAT", zlib.compress(b"\0\0")), END))


def test_only_the_page_that_is_used_must_be_valid() -> None:
    pages = animation("TIFF", 2)
    compression = struct.pack("<HHI", 259, 3, 1)
    place = pages.rindex(compression) + len(compression)
    assert pages.count(compression) == 2
    assert "only the first" in open_image(pages[:place] + b"\xff\xff" + pages[place + 2 :]).notes[0]


def test_concurrent_openings_do_not_affect_each_other() -> None:
    """The process's warning filters stay unchanged, which `warnings.catch_warnings` does not guarantee."""
    good = encode(half_red(300, 200), "JPEG")
    files: list[tuple[bytes, type[MediaError] | None]] = [
        (good, None),
        (BOMB, MediaTooLarge),
        (encode(half_red(), "WEBP"), None),
        (png(header(9000, 9999), PIXEL, END), MediaTooLarge),
        (png(header(20_000, 20_000), PIXEL, END), MediaTooLarge),
        (good[: len(good) // 2], DamagedMedia),
        (animation("TIFF"), UnsupportedMedia),
        (animation("GIF"), None),
    ]
    before = list(warnings.filters)
    barrier = threading.Barrier(8)

    def work(first: int) -> None:
        barrier.wait()
        for turn in range(40):
            data, error = files[(first + turn) % len(files)]
            if error is None:
                open_image(data, SERVICE)
                continue
            with pytest.raises(MediaError) as refused:
                open_image(data, SERVICE)
            assert type(refused.value) is error

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert warnings.filters == before


FIRST_OPENINGS = """
import pathlib, sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from vlrun.media.image import open_image
barrier, data = Barrier(8), pathlib.Path(sys.argv[1]).read_bytes()
def size(number):
    barrier.wait()
    return open_image(data).size
print(set(ThreadPoolExecutor(8).map(size, range(8))))
"""


def test_concurrent_first_openings_print_nothing(tmp_path: Path) -> None:
    """Pillow loads its formats in several threads, and warns about invalid metadata."""
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x010E, 2, 1000, 26) + bytes(4)  # truncated
    path = tmp_path / "odd.webp"
    path.write_bytes(encode(half_red(), "WEBP", exif=exif))
    with pytest.warns(UserWarning, match="larger than file"), Image.open(path) as image:
        image.getexif()
    command = [sys.executable, "-c", FIRST_OPENINGS, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (process.stdout, process.stderr) == ("{(40, 30)}\n", "")
