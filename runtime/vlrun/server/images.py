"""Images of a request: decoded from data URLs, checked together by their headers, then opened one by one.

Opens no file and no socket: everything but a data URL and the id of a stored image is refused by its first characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from vlrun.errors import MediaError, OptionError
from vlrun.media.enhance import enhance
from vlrun.media.image import Image, ImageLimits, image_size, opened_image
from vlrun.media.region import crop
from vlrun.server.api_errors import api_error, bad_request
from vlrun.server.generation_request import EncodedImage
from vlrun.server.limits import MIB, ServerLimits
from vlrun.types.options import Detail

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""Pillow's names of the formats that browsers and phones send. Further formats are further decoders to attack."""
MEDIA_TYPES = tuple(f"image/{name.lower()}" for name in FORMATS)
STORED = "vlrun:img_"
"""Begins the URL of an image that the client sent before."""

_MEGA = 1_000_000
_MEDIA_TYPE = re.compile(r"image/[\w.+*-]+|(?:application|binary)/octet-stream|", re.ASCII | re.IGNORECASE)
"""Types that say nothing else than that it may be an image."""
_PREFIX = re.compile(r"data:([\w.+*/-]*)(?:;[\w.+-]+=[\w.+-]*)*;base64,", re.ASCII | re.IGNORECASE)
_MAX_PREFIX = 256
_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def from_data_url(url: str, detail: Detail, param: str) -> EncodedImage:
    """Decode ``data:image/jpeg;base64,...``; ``vlrun:img_...`` names a stored image.

    The media type must be an image's, or say nothing; the bytes decide on the format: browsers and phones mislabel.

    Raises ApiError 400: ``url_not_allowed`` for every other URL or path, ``unsupported_image`` for other types,
    ``invalid_image`` for broken or empty data.
    """
    if url.startswith(STORED):
        return EncodedImage(b"", detail, param, url.removeprefix("vlrun:"))
    if url[:5].lower() != "data:":
        raise bad_request("vlrun fetches no URLs: send the image as a data URL", param, "url_not_allowed")
    prefix = _PREFIX.match(url, 0, _MAX_PREFIX)
    if prefix is None:
        raise bad_request("an image's data URL must begin like data:image/jpeg;base64,", param, "invalid_image")
    if not _MEDIA_TYPE.fullmatch(prefix[1]):
        raise bad_request("the data URL's type must be an image's, such as image/jpeg", param, "unsupported_image")
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
    """Check the headers of all images of a request, without decoding any.

    Raises ApiError 400 with the ``param`` of the first image that is one too many, has no valid header, or exceeds the
    pixels that they may have together. A MediaError, if there is one, is its cause.
    """
    if len(images) > limits.max_images:
        param = images[limits.max_images].param
        raise bad_request(f"a request may have at most {limits.max_images} images", param, "too_many_images")
    pixels = 0
    for image in images:
        width, height = encoded_size(image, limits)
        pixels += width * height
        if pixels > limits.request_megapixels * _MEGA:
            message = f"the images of a request may have {limits.request_megapixels} megapixels together"
            raise bad_request(message, image.param, "too_many_images")


def encoded_size(image: EncodedImage, limits: ServerLimits) -> tuple[int, int]:
    """Width and height from the header, before rotation. Raises as ``opened_encoded``."""
    with _media_errors(image):
        return image_size(image.encoded, _image_limits(limits))


@contextmanager
def opened_encoded(image: EncodedImage, limits: ServerLimits) -> Iterator[Image]:
    """Decode the image for a block, as ``opened_image`` does. Raises ApiError 400 with its ``param``; its cause is the
    MediaError.
    """
    with _media_errors(image), opened_image(image.encoded, _image_limits(limits)) as opened:
        yield opened


def as_requested(opened: Image, image: EncodedImage) -> Image:
    """Crop and enhance a decoded image as its request says. Raises ApiError 400 for a region outside of it."""
    try:
        cropped = crop(opened, image.region) if image.region else opened
    except OptionError as error:
        raise bad_request(error.message, f"{image.param.rpartition('.')[0]}.region") from None
    return enhance(cropped) if image.enhance else cropped


@contextmanager
def _media_errors(image: EncodedImage) -> Iterator[None]:
    try:
        yield
    except MediaError as error:
        raise replace(api_error(error), param=image.param) from error


def _image_limits(limits: ServerLimits) -> ImageLimits:
    return ImageLimits(
        formats=FORMATS,
        max_bytes=limits.max_body_mib * MIB,
        max_pixels=limits.max_megapixels * _MEGA,
        reduces=False,
        strict=True,
    )
