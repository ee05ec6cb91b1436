"""What decoding may cost: processor time of one image, pixels of all images decoded at once."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.runtime.media.test_image import END, PIXEL, encode, header, png
from vlrun.errors import MediaError, MediaTooLarge
from vlrun.media import image as image_module
from vlrun.media.decoding import EncodedFile, PixelBudget
from vlrun.media.image import image_size, open_image, opened_image
from vlrun.media.strict_checks import MAX_SCANS, MAX_STRIPS

SECONDS = 0.05
"""A fraction of what each of these files takes on a fast machine."""


def bmp(rle: bytes, side: int = 4000) -> bytes:
    """A palette BMP with run-length encoded pixels, which Pillow decodes in Python."""
    start = 54 + 4 * 256
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(rle), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(rle), 0, 0, start) + head + bytes(4 * 256) + rle


def tiff(strips: int = 1, pages: int = 1, compression: int = 1) -> bytes:
    """A TIFF whose pages have 1 x ``strips`` grey pixels, one in each strip. All share the same pixel."""
    tables = struct.pack("<I", 8) * strips + struct.pack("<I", 1) * strips if strips > 1 else b""
    offsets, sizes = (12, 12 + 4 * strips) if strips > 1 else (8, 1)
    many, one = {273: offsets, 279: sizes}, {256: 1, 257: strips, 258: 8, 259: compression, 262: 1, 278: 1}
    tags = sorted((many | one).items())
    entries = [struct.pack("<HHII", tag, 4, strips if tag in many else 1, value) for tag, value in tags]
    directory = struct.pack("<H", len(tags)) + b"".join(entries)
    first, size = 12 + len(tables), len(directory) + 4
    nexts = [*(first + size * page for page in range(1, pages)), 0]
    chain = b"".join(directory + struct.pack("<I", following) for following in nexts)
    return struct.pack("<2sHI", b"II", 42, first) + bytes(4) + tables + chain


JPEG = encode(PILImage.new("RGB", (8, 8)), "JPEG")
PROFILE = (b"iCCP", b"a\0\0" + zlib.compress(bytes(10**6)))
SLOW: dict[str, Callable[[], bytes]] = {
    "PNG chunks": lambda: png(header(1, 1), *[(b"prVt", b"")] * 100_000, PIXEL, END),
    "PNG profiles": lambda: png(header(1, 1), *[PROFILE] * 400, PIXEL, END),
    "PNG pixel chunks": lambda: png(header(1, 1), *[(b"IDAT", b"")] * 200_000, PIXEL, END),
    "BMP ends of lines": lambda: bmp(bytes(2) * 1_000_000),
    "BMP single pixels": lambda: bmp(b"\x01\x00" * 1_000_000),
    "JPEG fill bytes": lambda: JPEG[:2] + b"\xff" * 2_000_000 + JPEG[2:],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_slow_files_end_at_the_time_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 MB of such a file took minutes. Each has one or few pixels, and no limit but time refuses it."""
    monkeypatch.setattr(image_module, "EncodedFile", partial(EncodedFile, seconds=SECONDS))
    with pytest.raises(MediaTooLarge, match=rf"takes more than {SECONDS} s to decode"):
        open_image(SLOW[name]())


def test_further_pages_of_a_tiff_are_not_read() -> None:
    """Guards a count of all pages: 50 MB of page directories would take seconds."""
    reads: list[int | None] = []

    class CountingFile(EncodedFile):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.append(size)
            return super().read(size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_module, "EncodedFile", CountingFile)
        assert open_image(tiff(pages=20_000)).size == (1, 1)
    assert len(reads) < 100


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF"])
def test_time_is_checked_between_the_parts_of_a_file(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when a file is opened: pixels are what takes longest."""
    noise = PILImage.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    encoded = encode(noise, kind)
    files: list[EncodedFile] = []

    def opened(*arguments: object) -> EncodedFile:
        files.append(EncodedFile(*arguments))  # type: ignore[arg-type]
        return files[0]

    monkeypatch.setattr(image_module, "EncodedFile", opened)
    with image_module._open_encoded(encoded, "the image", image_module.DEFAULT_LIMITS) as pil_image:
        files[0]._end = 0
        with pytest.raises(MediaTooLarge):
            image_module._from_pillow(pil_image, "the image", image_module.DEFAULT_LIMITS)


def with_scans(scans: int) -> bytes:
    """A progressive JPEG with so many redundant scans more."""
    plain = encode(PILImage.new("RGB", (64, 64), "red"), "JPEG", progressive=True)
    return plain[:-2] + plain[plain.rindex(b"\xff\xc4") : -2] * scans + plain[-2:]


@pytest.mark.fault(48)
def test_jpegs_with_many_scans_are_refused() -> None:
    """906 KB with 4,400 scans of 89 megapixels took 299 s."""
    assert open_image(with_scans(MAX_SCANS - 10)).size == (64, 64)
    for read in (open_image, image_size):
        with pytest.raises(MediaTooLarge, match=f"more than {MAX_SCANS} scans"):
            read(with_scans(MAX_SCANS))


@pytest.mark.parametrize("compression", [1, 8])
def test_tiffs_with_many_strips_are_refused(compression: int) -> None:
    """56 MB with 7 million strips took gigabytes: Pillow makes objects of all of them when it reads the header."""
    assert open_image(tiff(strips=200)).size == (1, 200)
    with pytest.raises(MediaTooLarge, match=f"more than {MAX_STRIPS:,} strips"):
        open_image(tiff(MAX_STRIPS + 1, compression=compression))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_strips_are_counted_in_every_kind_of_tiff(order: str, big: bool) -> None:
    """Byte orders and BigTIFF. Damaged directories are left to Pillow."""
    entry = struct.pack(f"{order}HH{'QQ' if big else 'II'}", 324, 4, MAX_STRIPS + 1, 8)
    start = struct.pack(f"{order}HHQ", 8, 0, 16) if big else struct.pack(f"{order}I", 8)
    magic = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    whole = magic + start + struct.pack(f"{order}{'Q' if big else 'H'}", 1) + entry
    with pytest.raises(MediaTooLarge, match="strips or tiles"):
        open_image(whole)
    for end in range(4, len(whole)):
        with pytest.raises(MediaError):
            open_image(whole[:end])


def test_bands_convert_every_mode_as_a_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels are converted in bands, so that a conversion takes little memory."""
    noise = PILImage.fromarray(np.random.default_rng(0).integers(0, 256, (37, 41, 4), np.uint8))
    deep = PILImage.fromarray(np.random.default_rng(0).integers(0, 65536, (37, 41)).astype(np.uint16))
    images = [noise.convert(mode) for mode in ("RGBA", "LA", "RGB", "L", "1", "CMYK", "YCbCr")]
    images += [deep, noise.convert("RGB").quantize(16), noise.convert("RGB").convert("P")]
    images[-1].info["transparency"] = 3
    monkeypatch.setattr(image_module, "_BAND_PIXELS", 41 * 5)
    for image in images:
        expected = np.asarray(image_module._to_rgb(image, "the image"))
        np.testing.assert_array_equal(open_image(image).rgb, expected)


class Holder:
    """Threads that hold pixels of a budget until they are told to end."""

    def __init__(self, budget: PixelBudget) -> None:
        self.budget = budget
        self.held: list[int] = []
        self.most = 0
        self._ends: dict[int, threading.Event] = {}

    def work(self, number: int, pixels: int) -> None:
        with self.budget.hold(pixels):
            self.most = max(self.most, self.budget.held)
            self.held.append(number)
            assert self._ends[number].wait(30)

    def start(self, pool: ThreadPoolExecutor, number: int, pixels: int) -> None:
        """Start a thread, and wait until it holds its pixels or waits for them."""
        before = len(self.held) + self.budget.waiting
        self._ends[number] = threading.Event()
        pool.submit(self.work, number, pixels)
        wait_until(lambda: len(self.held) + self.budget.waiting > before)

    def end(self, number: int) -> None:
        self._ends[number].set()


def wait_until(condition: Callable[[], bool]) -> None:
    reached = threading.Event()
    for _ in range(3000):
        if condition():
            return
        reached.wait(0.01)
    raise AssertionError("timed out")


@pytest.fixture
def holder() -> Iterator[tuple[Holder, ThreadPoolExecutor]]:
    with ThreadPoolExecutor(8) as pool:
        yield Holder(PixelBudget(100)), pool


def test_images_beyond_the_budget_wait_in_order(holder: tuple[Holder, ThreadPoolExecutor]) -> None:
    """A large image is not overtaken by small ones that would fit, or it would wait for ever."""
    threads, pool = holder
    for number, pixels in enumerate([60, 50, 10, 10]):
        threads.start(pool, number, pixels)
    assert threads.held == [0]
    threads.end(0)
    wait_until(lambda: len(threads.held) == 4)
    assert threads.held[:2] == [0, 1]
    assert threads.most <= 100
    for number in range(1, 4):
        threads.end(number)
    wait_until(lambda: threads.budget.held == 0)


def test_an_image_larger_than_the_budget_is_decoded_alone(holder: tuple[Holder, ThreadPoolExecutor]) -> None:
    threads, pool = holder
    threads.start(pool, 0, 1)
    threads.start(pool, 1, 1000)
    assert threads.held == [0]
    threads.end(0)
    wait_until(lambda: threads.held == [0, 1])
    threads.start(pool, 2, 1)
    assert threads.held == [0, 1]
    threads.end(1)
    threads.end(2)
    wait_until(lambda: threads.held == [0, 1, 2])


def test_a_failed_image_gives_its_pixels_back(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = PixelBudget(100)
    monkeypatch.setattr(image_module, "DECODING", budget)
    with pytest.raises(MediaError):
        open_image(encode(PILImage.new("RGB", (64, 64)), "BMP")[:-100])
    with suppress(ZeroDivisionError), opened_image(JPEG):
        assert budget.held == 64
        raise ZeroDivisionError
    assert budget.held == budget.waiting == 0


def test_threads_share_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen images of 49 megapixels at once took 2 GB beside the model."""
    budget = PixelBudget(2 * 64)
    monkeypatch.setattr(image_module, "DECODING", budget)
    most: list[int] = []

    def work(_: int) -> None:
        with opened_image(JPEG):
            most.append(budget.held)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(64)))
    assert max(most) <= 128
    assert len(most) == 64
    assert budget.held == 0
