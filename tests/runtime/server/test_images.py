"""Rows 1 to 3 and 5 to 9 of the fault table, in the code that decodes the images of requests."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage

from vlrun.engine.request import Cancellation
from vlrun.errors import DamagedMedia, MediaError, MediaTooLarge, UnsupportedMedia
from vlrun.media.image import Image, image_size, open_image
from vlrun.media.strict_checks import MAX_SEGMENTS
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import EncodedImage
from vlrun.server.images import check_images, from_data_url, opened_encoded
from vlrun.server.limits import ServerLimits

LIMITS = ServerLimits(max_images=4, max_megapixels=1, request_megapixels=2)


def encoded(image: PILImage.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def header(width: int, height: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


PIXEL = (b"IDAT", zlib.compress(b"\0\1\2\3"))
END = (b"IEND", b"")
NOISE = PILImage.fromarray(np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8))
JPEG = encoded(NOISE, "JPEG")


def data_url(content: bytes, head: str = "data:image/png;base64,") -> str:
    return head + base64.b64encode(content).decode()


def checked_and_opened(content: bytes) -> Image:
    image = from_data_url(data_url(content), "auto", "url")
    check_images([image], LIMITS)
    with opened_encoded(image, LIMITS, Cancellation()) as opened:
        return opened


def refused(content: bytes, code: str, kind: type[MediaError]) -> str:
    """The message of the error."""
    with pytest.raises(ApiError) as error:
        checked_and_opened(content)
    assert (error.value.status, error.value.code, error.value.param) == (400, code, "url")
    assert type(error.value.__cause__) is kind  # the forms' endpoints make 415 of UnsupportedMedia
    assert error.value.message.startswith("the image ")
    return error.value.message


ADDRESSES = [
    *"http://169.254.169.254/latest/meta-data/ https://example.org/a.png HTTPS://example.org http:/example.org".split(),
    *"http:\\\\example.org\\a.png //example.org/a.png \\\\host\\share\\a.png ftp://example.org/a.png gopher://x:6379/_x".split(),
    *"file:///etc/passwd file:/etc/passwd FILE://localhost/etc/passwd /etc/passwd ../../etc/passwd etc/passwd".split(),
    *"~/.ssh/id_rsa unix:/run/x.sock javascript:alert(1) blob:https://example.org/1 data url(data:image/png,A".split(),
    *("", " data:image/png;base64,AAAA", "\tdata:image/png;base64,AAAA", "data\n:image/png;base64,AAAA"),
    *("view-source:data:image/png;base64,AAAA", "ｄata:image/png;base64,AAAA"),
]
DISGUISES = [b"/etc/passwd", b"http://169.254.169.254/", b"file:///etc/passwd", b"%!PS\n(/etc/passwd) run\n"]

DECODE = """
import json, pathlib, re, sys
from vlrun.engine.request import Cancellation
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import ServerLimits
from vlrun.server.images import check_images, from_data_url, opened_encoded
def answer(urls):
    try:
        images, sizes = [from_data_url(url, "auto", "url") for url in urls], []
        check_images(images, ServerLimits())
        for image in images:
            with opened_encoded(image, ServerLimits(), Cancellation()) as opened:
                sizes.append(opened.size)
        return sizes
    except ApiError as error:
        return [error.status, error.code, error.message]
requests = json.load(sys.stdin)
answer(requests[0])  # Pillow loads its formats
"""
AUDIT = """
events = []
sys.addaudithook(lambda event, args: events.append(event))
answers = [answer(urls) for urls in requests]
watched = ("open", "os", "socket", "subprocess", "urllib", "ctypes")
touched = [event for event in events if event.split(".")[0] in watched]
open("/dev/null").close()
print(json.dumps([answers, touched, "open" in events]))
"""
MEASURE = """
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
answers = [answer(urls) for urls in requests]
print(json.dumps([answers, peak() - before]))
"""


def run(script: str, requests: list[list[str]]) -> Any:
    """Run a script on data URLs in a new process and return its JSON output."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", DECODE + script]
    done = subprocess.run(
        command, input=json.dumps(requests).encode(), env=environment, capture_output=True, check=True
    )
    assert not done.stderr
    return json.loads(done.stdout)


def test_rows_1_and_2_no_url_or_image_opens_anything() -> None:
    """No socket, name lookup or file, as Python's audit events prove. The error message does not repeat the address."""
    disguises = [[data_url(content)] for content in DISGUISES]
    answers, touched, watching = run(AUDIT, [*disguises, [data_url(JPEG)], *([url] for url in ADDRESSES)])
    not_allowed = [400, "url_not_allowed", "vlrun fetches no URLs: send the image as a data URL"]
    assert [answer[1] for answer in answers[: len(DISGUISES)]] == ["unsupported_image"] * len(DISGUISES)
    assert answers[len(DISGUISES) :] == [[[120, 90]], *[not_allowed] * len(ADDRESSES)]
    assert touched == []
    assert watching


MALFORMED = [
    *"data: data:, data:image/png,AAAA data:image/png;base64 data:image/png;base64;charset=utf-8,AAAA".split(),
    *"data:image/png;charset;base64,AAAA data:image/png;ba\u017fe64,AAAA data:image/(;base64,AAAA".split(),
    *("data:image/png;charset=a b;base64,AAAA", "data:image/png; base64,AAAA", "data:image/svg+xml;utf8,<svg/>"),
    *("data:image/png;" + "a=b;" * 100 + "base64,AAAA", "data:image/png" * 10**6, "data:image/png;" + "a" * 10**7),
]
FOREIGN = "text/html text/plain application/zip application/json audio/mpeg video image image/ octets x/y */*".split()
BROKEN = [
    *("", "\r\n", "AA AA", "AA\tAA", "AAA\u0410", "AAA\0", "AAAA\0"),
    *"==== A AAAAA AAAA= AAAA==== AA= AA==AAAA =AAA AAAA,AAAA %2B%2B%2B%2B AAAA%3D AAAA#x AAAA?x -".split(),
]


@pytest.mark.parametrize(
    ("urls", "code"),
    [
        (MALFORMED, "invalid_image"),
        ([f"data:{name};base64,AAAA" for name in FOREIGN], "unsupported_image"),
        ([f"data:image/png;base64,{text}" for text in BROKEN], "invalid_image"),
    ],
    ids=["malformed", "foreign type", "broken base64"],
)
def test_row_3_invalid_data_urls_are_refused(urls: list[str], code: str) -> None:
    """One notation, types of images only, and no invalid characters skipped."""
    for url in urls:
        with pytest.raises(ApiError) as error:
            from_data_url(url, "auto", "field")
        assert (error.value.status, error.value.code, error.value.param) == (400, code, "field"), url[:80]
        assert error.value.__cause__ is None


TYPES = "Image/JPG image/webp;name=a.b;x= image/* image/svg+xml application/octet-stream".split()
HEADS = ["DATA:image/png;Base64,", "data:;base64,", *(f"data:{kind};base64," for kind in TYPES)]


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(min_size=1, max_size=200),
    head=st.sampled_from(HEADS),
    ending=st.sampled_from(["", "\n", "\r\n"]),
    width=st.integers(1, 80),
    safe=st.booleans(),
    padded=st.booleans(),
)
def test_row_3_valid_data_urls_are_decoded(
    content: bytes, head: str, ending: str, width: int, safe: bool, padded: bool
) -> None:
    """Any case, with parameters, base64 wrapped as MIME and shells wrap it, of either alphabet, without its padding."""
    text = (base64.urlsafe_b64encode if safe else base64.b64encode)(content).decode().rstrip("=" * (not padded))
    lines = [text[start : start + width] + ending for start in range(0, len(text), width)]
    assert from_data_url(head + "".join(lines), "low", "field") == EncodedImage(content, "low", "field")


STRICT = re.compile(r"(?:[\w+/-]{4})*(?:[\w+/-]{2}(?:==)?|[\w+/-]{3}=?)?", re.ASCII)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("AQz09+/=-_ \r\n%,;\0é"), max_size=12) | st.from_regex(STRICT, fullmatch=True))
@example("AAAA=")
@example("AAAA====")
def test_row_3_only_strict_base64_is_decoded(text: str) -> None:
    """Everything else is a 400, also excess padding, which Python's strict mode accepts, and half of it."""
    digits = text.replace("\r", "").replace("\n", "")
    if digits and STRICT.fullmatch(digits):
        padded = digits + "=" * (-len(digits) % 4)
        assert from_data_url(data_url(b"") + text, "auto", "url").encoded == base64.b64decode(padded, altchars=b"-_")
    else:
        with pytest.raises(ApiError):
            from_data_url(data_url(b"") + text, "auto", "url")


def test_row_3_bytes_decide_the_format() -> None:
    """Browsers and phones send wrong types."""
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "MPO", "GIF"):
        for head in HEADS:
            url = data_url(encoded(NOISE, kind), head)
            with opened_encoded(from_data_url(url, "auto", "url"), LIMITS, Cancellation()) as opened:
                assert opened.size == (120, 90)
    refused(b"\0", "unsupported_image", UnsupportedMedia)


def bomb(side: int) -> bytes:
    """A valid white PNG, a thousandth of the size of its pixels."""
    packer = zlib.compressobj(1)
    rows = (b"\0" + b"\xff" * 3 * side) * 100
    packed = b"".join(packer.compress(rows) for _ in range(side // 100)) + packer.flush()
    return png(header(side, side), (b"IDAT", packed), END)


def forged(kind: str, width: int, height: int) -> bytes:
    """A small file with another size in its header."""
    whole = encoded(PILImage.new("RGB", (16, 8)), kind)
    if kind == "JPEG":
        return whole.replace(struct.pack(">HH", 8, 16), struct.pack(">HH", height, width))
    if kind == "BMP":
        return whole.replace(struct.pack("<ii", 16, 8), struct.pack("<ii", width, height))
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    frame = bytes(6) + b"\x0f\0\0\x07\0\0" + bytes(4) + whole[12:]
    chunks = (b"VP8X", b"\2\0\0\0" + canvas), (b"ANIM", bytes(6)), (b"ANMF", frame)
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.slow
def test_rows_5_and_9_cost_no_memory() -> None:
    """Bombs, and too many images, are refused by their headers; decoding one of them would exceed the limit."""
    bombs = [
        bomb(13_000),
        png(header(60_000, 60_000), PIXEL, END),
        png(header(1, 1), *[(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20)))] * 60, PIXEL, END),
        *(forged("JPEG", 65_500, 65_500), forged("BMP", 60_000, 60_000), forged("WEBP", 13_000, 13_000)),
    ]
    requests = [[data_url(JPEG)], *([data_url(content)] for content in bombs)]
    answers, growth = run(MEASURE, [*requests, [data_url(bomb(6_000))] * 16, [data_url(JPEG)] * 50])
    assert [answer[1] for answer in answers[1:]] == ["invalid_image"] * len(bombs) + ["too_many_images"] * 2
    assert growth < 50


def test_row_9_limits_are_checked_before_decoding() -> None:
    """The error names the first image over the limit. All images here are truncated, so decoding any would fail."""
    cut = png(header(1000, 700), END)
    images = [EncodedImage(cut, "auto", f"image {number}") for number in range(5)]
    large = EncodedImage(png(header(1000, 1001), END), "auto", "large")
    check_images(images[:2], LIMITS)
    for image_request, code, message, param in [
        (images[:3], "too_many_images", "the images of a request may have 2 megapixels together", "image 2"),
        (images, "too_many_images", "a request may have at most 4 images", "image 4"),
        ([images[0], EncodedImage(b"", "auto", "second")], "invalid_image", "the image is empty", "second"),
        ([large], "invalid_image", "the image has more than 1,000,000 pixels, the limit", "large"),
    ]:
        with pytest.raises(ApiError) as error:
            check_images(image_request, LIMITS)
        assert (error.value.status, error.value.code) == (400, code)
        assert (error.value.message, error.value.param) == (message, param)


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("JPEG", 5000), ("JPEG", 100), ("PNG", 20_000), ("PNG", 20), ("WEBP", 1000), ("BMP", 1000)],
)
def test_row_6_truncated_images_are_refused(kind: str, kept: int) -> None:
    """No half-grey image, and no message of a library."""
    whole = encoded(NOISE, kind)
    assert kept < len(whole)
    assert refused(whole[:kept], "invalid_image", DamagedMedia) == "the image is damaged or cut short"


@pytest.mark.parametrize("chunk", [b"IHDR", b"IDAT", b"tEXt", b"IEND"])
def test_row_6_wrong_png_checksums_are_refused(chunk: bytes) -> None:
    """Pillow does not verify the checksum of every chunk."""
    chunks = [header(1, 1), PIXEL, (b"tEXt", b"a\0b"), END]
    whole = png(*chunks)
    end = whole.index(chunk) + 4 + len(dict(chunks)[chunk])
    refused(whole[:end] + bytes([whole[end] ^ 1]) + whole[end + 1 :], "invalid_image", DamagedMedia)
    assert checked_and_opened(whole).size == (1, 1)


@pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_row_6_broken_exif_is_refused(kind: str) -> None:
    """Pillow ignores EXIF that it cannot read, and the image would stay rotated. Damage elsewhere in it is accepted."""
    directory = struct.pack("<HHHII", 2, 0x010E, 2, 1000, 90) + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)
    good = b"Exif\0\0II*\0\x08\0\0\0" + directory
    assert checked_and_opened(encoded(NOISE, kind, exif=good)).size == (90, 120)
    assert checked_and_opened(encoded(NOISE, kind, exif=b"")).size == (120, 90)
    for broken in (b"Exif\0\0nonsense", good[:-12], good[:20], good.replace(b"II*\0\x08", b"II*\0\x88")):
        for options in ({}, {"dpi": (72, 72)}):  # Pillow reads the EXIF later if a JPEG has a density
            content = encoded(NOISE, kind, exif=broken, **options)
            assert "image " in refused(content, "invalid_image", DamagedMedia)


@pytest.mark.parametrize(
    "content",
    [
        *(encoded(NOISE, kind) for kind in "TIFF JPEG2000 ICO EPS PPM TGA".split()),
        b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(300),
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    ],
    ids="tiff jp2 ico eps ppm tga psd svg".split(),
)
def test_row_7_other_formats_are_refused(content: bytes) -> None:
    """Untrusted input reaches five decoders of this process only; HEIC, AVIF and PDF have a process of their own."""
    refused(content, "unsupported_image", UnsupportedMedia)


def test_row_8_unusual_images_decode_as_on_the_command_line() -> None:
    exif = PILImage.Exif()
    exif[0x0112] = 6
    deep = PILImage.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 160)
    for content, size in [
        (encoded(PILImage.new("RGB", (1, 1)), "PNG"), (1, 1)),
        (encoded(PILImage.new("RGB", (1, 20_000)), "PNG"), (1, 20_000)),
        (encoded(NOISE.convert("CMYK"), "JPEG"), (120, 90)),
        (encoded(deep, "PNG"), (20, 20)),
        (encoded(NOISE.quantize(16), "PNG", transparency=3), (120, 90)),
        (encoded(NOISE.convert("RGBA"), "WEBP"), (120, 90)),
        (encoded(NOISE.convert("LA"), "PNG"), (120, 90)),
        (encoded(NOISE.convert("1"), "BMP"), (120, 90)),
        (encoded(NOISE, "JPEG", exif=exif), (90, 120)),
        (encoded(NOISE, "JPEG", progressive=True), (120, 90)),
    ]:
        image = checked_and_opened(content)
        assert image.size == size
        assert image.sha256 == open_image(content).sha256


def jpeg_with(segments: bytes = b"", scans: int = 0) -> bytes:
    """A JPEG with more segments after the first marker, and redundant scans."""
    plain = encoded(NOISE, "JPEG", progressive=True)
    scan = plain[plain.rindex(b"\xff\xc4") : -2]  # with its table
    return plain[:2] + segments + plain[2:-2] + scan * scans + plain[-2:]


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")
@pytest.mark.parametrize(
    "many",
    [
        jpeg_with(b"\xff\xfe\0\2" * 500),
        jpeg_with((b"\xff\xe1\0\x0aExif\0\0ab") * 500),
        jpeg_with(b"\xff" * 2**21),
        png(header(1, 1), *[(b"abCd", b"")] * 500, PIXEL, END),
        png(header(1, 1), PIXEL, *[(b"tEXt", b"a\0b")] * 500, END),
        png(header(1, 1), *[(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**20)))] * 20, PIXEL, END),
    ],
    ids=["comments", "exif", "filling", "chunks", "chunks behind pixels", "profiles"],
)
def test_too_many_segments_are_refused(many: bytes) -> None:
    """11 MB of EXIF segments take 15 s to join, of fill bytes 3 s to skip. The command line has no such limit."""
    assert "has more than 256 segments" in refused(many, "invalid_image", MediaTooLarge)
    assert open_image(many).size == image_size(many)


@pytest.mark.parametrize("compression", [1, 2])
def test_compressed_bmps_are_refused(compression: int) -> None:
    """29 KB of run-length encoded pixels took 10 s to decode, in Python: eight clients kept all slots for minutes."""
    plain = encoded(NOISE.convert("P"), "BMP")
    assert "compressed BMP" in refused(
        plain[:30] + struct.pack("<I", compression) + plain[34:], "unsupported_image", UnsupportedMedia
    )
    assert checked_and_opened(plain).size == (120, 90)


def test_common_segments_are_accepted() -> None:
    """Photo metadata and fill bytes, ten scans, marker-like bytes after the end, many pixel chunks, some texts."""
    exif = PILImage.Exif()
    exif[0x010E] = "\xff\xda" * 500
    photo = encoded(NOISE, "JPEG", progressive=True, exif=exif, icc_profile=b"\xff\xda\0\2" * 2**18)
    photo = photo[:2] + b"\xff" * 2**16 + photo[2:]
    assert checked_and_opened(photo + b"\xff\xda\0\2" * 2**16).size == (120, 90)
    packed = zlib.compress(b"\0\1\2\3")
    pieces = [(b"IDAT", packed[index : index + 1]) for index in range(len(packed))] + [(b"IDAT", b"")] * 500
    texts = [(b"zTXt", b"a\0\0" + zlib.compress(b"x"))] * 10
    whole = png(header(1, 1), *texts, *pieces, END) + bytes(12 * MAX_SEGMENTS)
    assert checked_and_opened(whole).rgb.tolist() == [[[1, 2, 3]]]
