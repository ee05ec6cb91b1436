"""Rows 3 and 5 to 10 of the fault table on the real service: images from untrusted clients."""

from __future__ import annotations

import base64
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from tests.paths import EXAMPLES
from tests.runtime.server.error_checks import assert_error, memory_growth_below, still_answers
from tests.runtime.server.http_client import QUESTION, Reply, chat_request, data_url, image, post
from tests.runtime.server.running_server import Server

URL = "messages[0].content[0].image_url.url"
SHELF = (EXAMPLES / "shelf.png").read_bytes()
MIB = 2**20


@pytest.fixture(autouse=True)
def service_survives(server: Server) -> Iterator[None]:
    with still_answers(server):
        yield


def shelf_image() -> Image.Image:
    return Image.open(io.BytesIO(SHELF)).convert("RGB")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def image_request(*urls: str) -> dict[str, Any]:
    return chat_request(*({"type": "image_url", "image_url": {"url": url}} for url in urls), QUESTION)


def chunk(name: bytes, content: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, bits: int, kind: int, pixels: bytes) -> bytes:
    """A PNG with compressed ``pixels``."""
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """At least ``count`` zero bytes in zlib format: one compressed block, repeated."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block, times = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH), -(-count // MIB)
    adler = (MIB * times % 65521) << 16 | 1
    return b"\x78\xda" + block * times + b"\x03\x00" + struct.pack(">I", adler)


def black(side: int, other: int | None = None) -> bytes:
    """A valid black PNG of 8 bits per pixel; a few bytes per megapixel."""
    height = other or side
    return png(side, height, 8, 0, zeros((side + 1) * height))


BROKEN_URLS = {
    "bad characters": "data:image/png;base64,!!!!",
    "a digit missing": "data:image/png;base64,iVBORw0KG",
    "padding in the middle": "data:image/png;base64,iVBO==Rw0KGgo=",
    "spaces": "data:image/png;base64,iVBO Rw0K",
    "not base64": "data:image/png,%89PNG",
    "nothing": "data:image/png;base64,",
    "no comma": "data:image/png;base64",
    "no type": "data:",
}
OTHER_TYPES = ("text/html", "text/plain", "application/json", "audio/mpeg", "x/y")


@pytest.mark.fault(3)
@pytest.mark.parametrize("name", BROKEN_URLS)
def test_a_broken_data_url_is_refused(server: Server, name: str) -> None:
    """Row 3. Python's base64 decoder skips invalid characters, so two readers could see two images."""
    assert_error(post(server, image_request(BROKEN_URLS[name])), 400, "invalid_image", URL)


@pytest.mark.fault(3)
@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_another_type_is_refused(server: Server, kind: str) -> None:
    """Row 3."""
    url = data_url(SHELF).replace("image/png", kind)
    assert_error(post(server, image_request(url)), 400, "unsupported_image", URL)


@pytest.mark.fault(3)
def test_the_bytes_decide_and_not_the_type(server: Server) -> None:
    """Row 3. Phones and browsers send wrong types, libraries none."""
    for kind in ("image/jpeg", "image/gif", "image/*", "application/octet-stream", ""):
        assert post(server, image_request(data_url(SHELF).replace("image/png", kind))).text == "6"


@pytest.mark.fault(3)
def test_base64_of_any_client_is_read(server: Server) -> None:
    """Row 3. Of JavaScript without padding, of Python's ``urlsafe_b64encode``, of MIME with line breaks."""
    content = encoded(shelf_image(), "PNG")
    while len(content) % 3 != 1:  # so that there is padding
        content += b"\0"
    plain = base64.b64encode(content).decode()
    assert plain.endswith("==")
    assert "+" in plain
    assert "/" in plain
    for text in (
        plain.rstrip("="),
        base64.urlsafe_b64encode(content).decode(),
        base64.urlsafe_b64encode(content).decode().rstrip("="),
        base64.encodebytes(content).decode(),
        plain.replace("A", "A\r\n"),
    ):
        assert post(server, image_request(f"data:image/png;base64,{text}")).text == "6"


@pytest.mark.fault(5)
@pytest.mark.parametrize("size", [(13_000, 13_000), (60_000, 60_000), (7_100, 7_100), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_not_decoded(server: Server, size: tuple[int, int]) -> None:
    """Row 5. 13000 x 13000 pixels decode to 661 MB; Pillow only warns, and fails from 178.9 megapixels on."""
    content = black(*size) if size[0] < 2**20 else png(*size, 8, 0, zlib.compress(bytes(100)))
    assert len(content) < 5_000_000
    with memory_growth_below(server, 50):
        assert_error(post(server, image_request(data_url(content))), 400, "invalid_image", URL)
    with memory_growth_below(server, 50):
        assert_error(form(server, content), 400, "invalid_image", "image")


def test_the_bomb_is_a_valid_image() -> None:
    """Otherwise the test above would prove nothing."""
    image = Image.open(io.BytesIO(black(2_000)))
    image.load()
    assert image.size == (2_000, 2_000)


def form(server: Server, content: bytes, path: str = "/api/v1/chat") -> Reply:
    head = b'--B\r\nContent-Disposition: form-data; name="image"; filename="x.png"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=B"}
    return post(server, head + content + b"\r\n--B--\r\n", path, kind)


def flipped(content: bytes) -> bytes:
    """The content with one bit in the middle flipped."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


JPEG = encoded(shelf_image(), "JPEG", quality=95)
DAMAGED: dict[str, Callable[[], bytes]] = {
    "a JPEG cut in the middle": lambda: JPEG[: len(JPEG) // 2],
    "a JPEG without its last bytes": lambda: JPEG[:-100],
    "a JPEG cut in its header": lambda: JPEG[:200],
    "a PNG cut in the middle": lambda: SHELF[: len(SHELF) // 2],
    "a PNG without its end": lambda: SHELF[:-30],
    "a PNG with a wrong CRC": lambda: flipped(SHELF),
    "a PNG whose pixels are too few": lambda: png(100, 100, 8, 0, zlib.compress(bytes(1000))),
    "a PNG whose pixels are no zlib": lambda: png(100, 100, 8, 0, b"\x00" * 100),
    "a WebP cut in the middle": lambda: encoded(shelf_image(), "WEBP")[:2000],
    "a BMP cut in the middle": lambda: encoded(shelf_image(), "BMP")[:2000],
    "a JPEG with a broken EXIF": lambda: encoded(shelf_image(), "JPEG", exif=b"Exif\0\0" + b"\xff" * 300),
    "a PNG with a broken EXIF": lambda: SHELF[:33] + chunk(b"eXIf", b"\xff" * 300) + SHELF[33:],
}


@pytest.mark.fault(6)
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_image_is_refused(server: Server, name: str) -> None:
    """Row 6. Half an image would get a wrong answer; damage after the header was once a 500."""
    content = DAMAGED[name]()
    for stream in (False, True):
        reply = post(server, {**image_request(data_url(content)), "stream": stream})
        code = reply.json["error"]["code"]
        assert code in ("invalid_image", "unsupported_image")  # the latter if the header is broken
        assert_error(reply, 400, code, URL)
    assert form(server, content).status in (400, 415)
    assert post(server, {"messages": image_request(data_url(content))["messages"]}, "/v1/tokenize").status == 400


def frames(kind: str) -> bytes:
    """The shelf, and a red image in the same file."""
    shelf = shelf_image()
    options = {"lossless": True} if kind == "WEBP" else {}
    second = Image.new("RGB", shelf.size, "red")
    return encoded(shelf, kind, save_all=True, append_images=[second], **options)


@pytest.mark.fault(7)
@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation_is_answered(server: Server, kind: str) -> None:
    """Row 7. A note says that the others are not seen."""
    content = frames(kind)
    reply = post(server, image_request(data_url(content, kind.lower())))
    assert reply.text == "6"
    assert any("only the first is used" in note for note in reply.json["choices"][0]["vlrun"]["notes"])
    assert form(server, content).json["answer"]


FORMATS: dict[str, Callable[[], bytes]] = {
    "TIFF": lambda: encoded(shelf_image(), "TIFF"),
    "PPM": lambda: encoded(shelf_image(), "PPM"),
    "ICO": lambda: encoded(shelf_image(), "ICO"),
    "JPEG 2000": lambda: encoded(shelf_image(), "JPEG2000"),
    "AVIF": lambda: b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(200),
    "HEIC": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
    "PSD": lambda: b"8BPS\0\1" + bytes(200),
    "EPS": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "HTML": lambda: b"<html><img src='http://169.254.169.254/'></html>",
    "noise": lambda: os.urandom(1000),
}


@pytest.mark.fault(7)
@pytest.mark.parametrize("name", FORMATS)
def test_no_other_format_is_opened(server: Server, name: str) -> None:
    """Row 7. Each format is a decoder to attack. 400 on OpenAI endpoints, 415 on form endpoints."""
    content = FORMATS[name]()
    assert_error(post(server, image_request(data_url(content))), 400, "unsupported_image", URL)
    assert_error(form(server, content), 415, "unsupported_image", "image")
    assert_error(form(server, content, "/api/v1/analyze"), 415, "unsupported_image", "image")


def deep() -> bytes:
    """The shelf with 16 bits per channel."""
    image = shelf_image()
    rows = (image.crop((0, y, image.width, y + 1)).tobytes() for y in range(image.height))
    doubled = b"".join(b"\0" + bytes(byte for value in row for byte in (value, value)) for row in rows)
    return png(*image.size, 16, 2, zlib.compress(doubled))


def rotated() -> bytes:
    """The shelf rotated, with the EXIF orientation that undoes it."""
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn it 90 degrees clockwise"
    return encoded(shelf_image().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif.tobytes(), quality=95)


UNUSUAL: dict[str, Callable[[], bytes]] = {
    "CMYK": lambda: encoded(shelf_image().convert("CMYK"), "JPEG", quality=95),
    "16 bits": deep,
    "palette": lambda: encoded(shelf_image().convert("P"), "PNG"),
    "alpha": lambda: encoded(shelf_image().convert("RGBA"), "PNG"),
    "turned by EXIF": rotated,
}


@pytest.mark.fault(8)
@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_images_are_answered(server: Server, name: str) -> None:
    """Row 8."""
    assert post(server, image_request(data_url(UNUSUAL[name]()))).text == "6"


@pytest.mark.fault(8)
def test_the_smallest_image_is_answered(server: Server) -> None:
    """Row 8."""
    assert post(server, image_request(data_url(encoded(Image.new("RGB", (1, 1)), "PNG")))).status == 200


@pytest.mark.fault(8)
@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
def test_a_strip_is_refused_in_clear_words(server: Server, size: tuple[int, int]) -> None:
    """Row 8."""
    reply = post(server, image_request(data_url(encoded(Image.new("RGB", size), "PNG"))))
    param = reply.json["error"]["param"]
    assert param in (URL, "messages")  # the model checks it and does not know the field
    assert "at most 200" in assert_error(reply, 400, "invalid_image", param)


@pytest.mark.fault(9)
@pytest.mark.parametrize("count", [17, 50])
def test_too_many_images_are_refused_before_decoding(server: Server, count: int) -> None:
    """Row 9, GHSA-5r3c-5x4v-8gjh: all images were decoded before they were counted."""
    urls = [data_url(black(6_000))] * count
    with memory_growth_below(server, 50):
        assert_error(
            post(server, image_request(*urls)), 400, "too_many_images", URL.replace("content[0]", "content[16]")
        )
        counted = post(server, {"messages": image_request(*urls)["messages"]}, "/v1/tokenize")
        assert_error(counted, 400, "too_many_images", URL.replace("content[0]", "content[16]"))


@pytest.mark.fault(9)
def test_too_many_pixels_together_are_refused_before_decoding(server: Server) -> None:
    """Row 9: each image is within its limit."""
    with memory_growth_below(server, 50):
        reply = post(server, image_request(*[data_url(black(4_000, 3_000))] * 16))
        assert_error(reply, 400, "too_many_images", URL.replace("content[0]", "content[8]"))
        messages = image_request(*[data_url(black(4_000, 3_000))] * 16)["messages"]
        counted = post(server, {"messages": messages}, "/v1/tokenize")
        assert_error(counted, 400, "too_many_images", URL.replace("content[0]", "content[8]"))


VIDEO = "data:video/mp4;base64,AAAAGGZ0eXBpc29t"
VIDEOS: dict[str, dict[str, Any]] = {
    "video_url": {"type": "video_url", "video_url": {"url": VIDEO}},
    "video": {"type": "video", "video": VIDEO},
    "image_url": {"type": "image_url", "image_url": {"url": VIDEO}},
}


@pytest.mark.fault(10)
@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_without_frames_is_refused(server: Server, name: str) -> None:
    """Row 10. `test_videos` has more; without the extra, all are refused."""
    reply = post(server, chat_request(VIDEOS[name], QUESTION))
    error = reply.json["error"]
    assert (reply.status, error["code"]) in ((400, "invalid_image"), (400, "missing_extra"))
    assert post(server, chat_request(image(), QUESTION)).text == "6"


@pytest.mark.fault(10)
def test_another_part_for_videos_is_refused(server: Server) -> None:
    """Row 10."""
    part = {"type": "input_video", "video_url": VIDEO}
    assert_error(post(server, chat_request(part, QUESTION)), 400, "unsupported_video", "messages[0].content[0].type")
