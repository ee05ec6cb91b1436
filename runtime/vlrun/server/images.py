"""Images of a request: decoded from data URLs, checked together by their headers, then opened one by one.

Opens no file and no socket: everything but a data URL and the id of a stored image is refused by its first characters.
Only a few decoders run in this process; ``isolated_media`` has the others, whose sizes, faults and appetite are larger.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import msgspec

from vlrun.engine.request import Cancellation
from vlrun.errors import MediaError, OptionError, UnsupportedMedia
from vlrun.media.enhance import enhance
from vlrun.media.image import Image, ImageLimits, image_size, opened_image
from vlrun.media.region import crop
from vlrun.server.api_errors import ApiError, api_error, bad_request
from vlrun.server.decoder import Kind
from vlrun.server.generation_request import EncodedImage
from vlrun.server.isolated_media import TooManyPages, kind_of, media_types, opened_page, opened_photo, photo_size
from vlrun.server.limits import MIB, ServerLimits
from vlrun.types.options import Detail

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""Pillow's names of the formats that are decoded in this process: those that browsers and phones send. Their decoders
are old and small, and ``media`` bounds what they cost."""
MEDIA_TYPES = (*(f"image/{name.lower()}" for name in FORMATS), *media_types())
"""What the service takes, depending on the extras that are installed."""
STORED = "vlrun:img_"
"""Begins the URL of an image that the client sent before."""

_MEGA = 1_000_000
_MEDIA_TYPE = re.compile(
    r"(?:image|video)/[\w.+*-]+|(?:application|binary)/(?:octet-stream|pdf|x-pdf)|", re.ASCII | re.IGNORECASE
)
"""Types that say nothing else than that it may be an image, a PDF file or a video."""
_PREFIX = re.compile(r"data:([\w.+*/-]*)(?:;[\w.+-]+=[\w.+-]*)*;base64,", re.ASCII | re.IGNORECASE)
_MAX_PREFIX = 256
_STORED_PAGE = re.compile(r"vlrun:(img_[^#]*)(?:#page=([1-9][0-9]{0,6}))?", re.ASCII | re.DOTALL)
"""The id of a stored image; behind that of a PDF file a page (RFC 8118, 3)."""
_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def from_data_url(url: str, detail: Detail, param: str) -> EncodedImage:
    """Decode ``data:image/jpeg;base64,...``; ``vlrun:img_...`` names a stored image, ``vlrun:img_...#page=3`` a page.

    The media type must be that of an image, a PDF file or a video, or say nothing; the bytes decide, because browsers
    and phones mislabel.

    Raises ApiError 400: ``url_not_allowed`` for every other URL or path, ``unsupported_image`` for other types,
    ``invalid_image`` for broken or empty data.
    """
    if url.startswith(STORED):
        if (stored := _STORED_PAGE.fullmatch(url)) is None:
            raise bad_request("a page of a stored PDF file is named as vlrun:img_...#page=3", param)
        return EncodedImage(b"", detail, param, stored[1], pages=stored[2])
    if url[:5].lower() != "data:":
        raise bad_request("vlrun fetches no URLs: send the image as a data URL", param, "url_not_allowed")
    prefix = _PREFIX.match(url, 0, _MAX_PREFIX)
    if prefix is None:
        raise bad_request("an image's data URL must begin like data:image/jpeg;base64,", param, "invalid_image")
    if not _MEDIA_TYPE.fullmatch(prefix[1]):
        message = "the data URL's type must be that of an image, a PDF file or a video, such as image/jpeg"
        raise bad_request(message, param, "unsupported_image")
    encoded = _decode_base64(url[prefix.end() :], param)
    if not encoded:
        raise bad_request("the image is empty", param, "invalid_image")
    return EncodedImage(encoded, detail, param)


def _decode_base64(text: str, param: str) -> bytes:
    """Decode either alphabet of RFC 4648, with line breaks, with all of the padding or none. Raises ApiError (400)."""
    if "\n" in text or "\r" in text:
        text = text.replace("\r", "").replace("\n", "")
    if "-" in text or "_" in text:
        text = text.translate(_STANDARD_ALPHABET)
    if not text.endswith("="):
        text += "=" * (-len(text) % 4)
    try:
        return msgspec.convert(text, bytes)  # strict, and twice as fast as binascii
    except msgspec.ValidationError:
        raise bad_request("the image's base64 is broken", param, "invalid_image") from None


def check_images(images: Sequence[EncodedImage], limits: ServerLimits) -> None:
    """Check the headers of all images of a request, without decoding any. Those of PDF files and videos are read when
    it is the request's turn.

    Raises ApiError 400 with the ``param`` of the first image that is one too many, has no valid header, or exceeds the
    pixels that they may have together. A MediaError, if there is one, is its cause.
    """
    if len(images) > limits.max_images:
        raise too_many_images(limits, images[limits.max_images].param)
    pixels = 0
    for image in images:
        kind = kind_of(image.encoded)
        _check_fields(image, kind)
        if kind in ("document", "video"):
            continue
        width, height = encoded_size(image, limits)
        pixels += width * height
        if pixels > limits.request_megapixels * _MEGA:
            message = f"the images of a request may have {limits.request_megapixels} megapixels together"
            raise bad_request(message, image.param, "too_many_images")


def _check_fields(image: EncodedImage, kind: Kind | None) -> None:
    """Raise ApiError (400) for fields that files of another kind have."""
    if image.pages is not None and kind != "document":
        raise bad_request("pages are for PDF files, and this is none", image.param)
    if image.video is not None and kind != "video":
        raise bad_request("the file is not a video that vlrun can read", image.param, "unsupported_video")
    if kind == "video" and (image.region is not None or image.enhance):
        raise bad_request("region and enhance are for images, and this is a video", image.param)


def too_many_images(limits: ServerLimits, param: str) -> ApiError:
    """A 400."""
    return bad_request(f"a request may have at most {limits.max_images} images", param, "too_many_images")


def encoded_size(image: EncodedImage, limits: ServerLimits) -> tuple[int, int]:
    """Width and height from the header, before rotation; not for PDF files and videos. Raises as ``opened_encoded``."""
    with image_errors(image):
        if kind_of(image.encoded) == "photo":
            return photo_size(image.encoded, limits)
        return image_size(image.encoded, _image_limits(limits))


@contextmanager
def opened_encoded(
    image: EncodedImage, limits: ServerLimits, cancellation: Cancellation, side: int | None = None
) -> Iterator[Image]:
    """Decode the image for a block, as ``opened_image`` does. A PDF file stands for its only page.

    ``side``: the longest side of a page.

    Raises ApiError 400 with its ``param``, whose cause is the MediaError, and AnswerCancelled.
    """
    with image_errors(image):
        match kind_of(image.encoded):
            case "photo":
                opening: AbstractContextManager[Image] = opened_photo(image.encoded, limits, cancellation)
            case "video":
                raise UnsupportedMedia("the file is a video, not an image")
            case "document":
                opening = opened_page(image.encoded, image.pages, side, limits, cancellation)
            case _:
                opening = opened_image(image.encoded, _image_limits(limits))
        with opening as opened:
            yield opened


def as_requested(opened: Image, image: EncodedImage) -> Image:
    """Crop and enhance a decoded image as its request says. Raises ApiError 400 for a region outside of it."""
    try:
        cropped = crop(opened, image.region) if image.region else opened
    except OptionError as error:
        raise bad_request(error.message, f"{image.param.rpartition('.')[0]}.region") from None
    return enhance(cropped) if image.enhance else cropped


@contextmanager
def image_errors(image: EncodedImage) -> Iterator[None]:
    """Turn errors of the block about an image into ApiErrors (400) with its ``param``."""
    try:
        yield
    except TooManyPages as error:
        raise bad_request(error.message, image.param, "too_many_images") from None
    except (MediaError, OptionError) as error:
        raise replace(api_error(error), param=image.param) from error


def _image_limits(limits: ServerLimits) -> ImageLimits:
    return ImageLimits(
        formats=FORMATS,
        max_bytes=limits.max_body_mib * MIB,
        max_pixels=limits.max_megapixels * _MEGA,
        reduces=False,
        strict=True,
    )
