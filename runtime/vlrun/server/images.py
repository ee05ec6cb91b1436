"""Images of a request: bytes out of a data URL, looked at together before any is decoded, then opened one by one.

Knows data URLs and what the service takes of images; does not know file formats, which `vlrun.media` reads. Nothing
in here opens a file or a socket: whatever is no data URL is refused by its first characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from vlrun.errors import MediaError
from vlrun.media.image import Image, ImageLimits, image_size, open_image
from vlrun.server.api_errors import ApiError, api_error, bad_request
from vlrun.server.generation_request import EncodedImage
from vlrun.server.limits import MIB, ServerLimits
from vlrun.types.options import Detail

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""Pillow's names of what the service opens: what browsers and phones send. Further formats are further decoders that a
stranger may attack.
"""

_MEGA = 1_000_000
_MEDIA_TYPES = ("image/jpeg", "image/jpg", "image/png", "image/webp", "image/bmp")

_HEAD = re.compile(r"data:([\w.+/-]*)(?:;[\w.+-]+=[\w.+-]*)*;base64,", re.ASCII | re.IGNORECASE)
_LONGEST_HEAD = 256


def from_data_url(url: str, detail: Detail, param: str) -> EncodedImage:
    """The image's file out of ``data:image/jpeg;base64,...``.

    The type must be that of JPEG, PNG, WebP or BMP, but what the bytes are is decided by the bytes: browsers and phones
    mislabel. The base64 is that of RFC 4648 with its padding; line breaks (CR, LF) in it are ignored, and nothing else.

    Raises ApiError 400: ``url_not_allowed`` for every other URL or path, ``unsupported_image`` for other types,
    ``invalid_image`` for what is broken or empty.
    """
    if url[:5].lower() != "data:":
        raise bad_request("vlrun fetches nothing: send the image as a data URL", param, "url_not_allowed")
    head = _HEAD.match(url, 0, _LONGEST_HEAD)
    if head is None:
        raise bad_request("an image's data URL must begin like data:image/jpeg;base64,", param, "invalid_image")
    if head[1].lower() not in _MEDIA_TYPES:
        raise bad_request(f"an image's type must be one of {', '.join(_MEDIA_TYPES)}", param, "unsupported_image")
    encoded = _from_base64(url[head.end() :], param)
    if not encoded:
        raise bad_request("the image is empty", param, "invalid_image")
    return EncodedImage(encoded, detail, param)


def check(images: Sequence[EncodedImage], limits: ServerLimits) -> None:
    """Look at the headers of all images of a request, in order; none is decoded.

    Raises ApiError 400 with the ``param`` of the first image that is one too many, that cannot be opened by its
    header, or with which they have too many pixels together. Where a MediaError stands behind it, it is the cause.
    """
    if len(images) > limits.max_images:
        beyond = images[limits.max_images].param
        raise bad_request(f"a request may have {limits.max_images} images", beyond, "too_many_images")
    pixels = 0
    for image in images:
        try:
            width, height = image_size(image.encoded, _intake(limits))
        except MediaError as error:
            raise _told(error, image) from error
        pixels += width * height
        if pixels > limits.request_megapixels * _MEGA:
            message = f"the images of a request may have {limits.request_megapixels} megapixels together"
            raise bad_request(message, image.param, "too_many_images")


def open_encoded(image: EncodedImage, limits: ServerLimits) -> Image:
    """The image, decoded. Raises ApiError 400 with its ``param``; the cause is the MediaError."""
    try:
        return open_image(image.encoded, _intake(limits))
    except MediaError as error:
        raise _told(error, image) from error


def _intake(limits: ServerLimits) -> ImageLimits:
    return ImageLimits(
        formats=FORMATS,
        max_bytes=limits.max_body_mib * MIB,
        max_pixels=limits.max_megapixels * _MEGA,
        animated=False,
        strict=True,
    )


def _told(error: MediaError, image: EncodedImage) -> ApiError:
    return replace(api_error(error), param=image.param)


def _from_base64(text: str, param: str) -> bytes:
    if "\n" in text or "\r" in text:
        text = text.replace("\r", "").replace("\n", "")
    try:
        return msgspec.convert(text, bytes)  # strict, and in half of binascii's time
    except msgspec.ValidationError:
        raise bad_request("the image's base64 is broken", param, "invalid_image") from None
