"""Pictures of a request: bytes out of a data URL, looked at together before any is decoded, then opened one by one.

Knows data URLs and what the service takes of pictures; does not know file formats, which `vlrun.media` reads. Nothing
in here opens a file or a socket: whatever is no data URL is refused by its first characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from vlrun.errors import MediaError
from vlrun.media.image import Intake, Picture, open_picture, picture_size
from vlrun.server.api_errors import ApiError, api_error, bad_request
from vlrun.server.generation_request import EncodedPicture
from vlrun.server.limits import MIB, Limits
from vlrun.types import Detail

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""Pillow's names of what the service opens: what browsers and phones send. Further formats are further decoders that a
stranger may attack.
"""

_MEGA = 1_000_000
_MEDIA_TYPES = ("image/jpeg", "image/jpg", "image/png", "image/webp", "image/bmp")

_HEAD = re.compile(r"data:([\w.+/-]*)(?:;[\w.+-]+=[\w.+-]*)*;base64,", re.ASCII | re.IGNORECASE)
_LONGEST_HEAD = 256


def from_data_url(url: str, detail: Detail, param: str) -> EncodedPicture:
    """The picture's file out of ``data:image/jpeg;base64,...``.

    The type must be that of JPEG, PNG, WebP or BMP, but what the bytes are is decided by the bytes: browsers and phones
    mislabel. The base64 is that of RFC 4648 with its padding; line breaks (CR, LF) in it are ignored, and nothing else.

    Raises ApiError 400: ``url_not_allowed`` for every other URL or path, ``unsupported_image`` for other types,
    ``invalid_image`` for what is broken or empty.
    """
    if url[:5].lower() != "data:":
        raise bad_request("vlrun fetches nothing: send the picture as a data URL", param, "url_not_allowed")
    head = _HEAD.match(url, 0, _LONGEST_HEAD)
    if head is None:
        raise bad_request("a picture's data URL must begin like data:image/jpeg;base64,", param, "invalid_image")
    if head[1].lower() not in _MEDIA_TYPES:
        raise bad_request(f"a picture's type must be one of {', '.join(_MEDIA_TYPES)}", param, "unsupported_image")
    encoded = _from_base64(url[head.end() :], param)
    if not encoded:
        raise bad_request("the picture is empty", param, "invalid_image")
    return EncodedPicture(encoded, detail, param)


def check(pictures: Sequence[EncodedPicture], limits: Limits) -> None:
    """Look at the headers of all pictures of a request, in order; none is decoded.

    Raises ApiError 400 with the ``param`` of the first picture that is one too many, that cannot be opened by its
    header, or with which they have too many pixels together. Where a MediaError stands behind it, it is the cause.
    """
    if len(pictures) > limits.max_pictures:
        beyond = pictures[limits.max_pictures].param
        raise bad_request(f"a request may have {limits.max_pictures} pictures", beyond, "too_many_images")
    pixels = 0
    for picture in pictures:
        try:
            width, height = picture_size(picture.encoded, _intake(limits))
        except MediaError as error:
            raise _told(error, picture) from error
        pixels += width * height
        if pixels > limits.request_megapixels * _MEGA:
            message = f"the pictures of a request may have {limits.request_megapixels} megapixels together"
            raise bad_request(message, picture.param, "too_many_images")


def open_encoded(picture: EncodedPicture, limits: Limits) -> Picture:
    """The picture, decoded. Raises ApiError 400 with its ``param``; the cause is the MediaError."""
    try:
        return open_picture(picture.encoded, _intake(limits))
    except MediaError as error:
        raise _told(error, picture) from error


def _intake(limits: Limits) -> Intake:
    return Intake(
        formats=FORMATS,
        max_bytes=limits.max_body_mib * MIB,
        max_pixels=limits.max_megapixels * _MEGA,
        animated=False,
        strict=True,
    )


def _told(error: MediaError, picture: EncodedPicture) -> ApiError:
    return replace(api_error(error), param=picture.param)


def _from_base64(text: str, param: str) -> bytes:
    if "\n" in text or "\r" in text:
        text = text.replace("\r", "").replace("\n", "")
    try:
        return msgspec.convert(text, bytes)  # strict, and in half of binascii's time
    except msgspec.ValidationError:
        raise bad_request("the picture's base64 is broken", param, "invalid_image") from None
