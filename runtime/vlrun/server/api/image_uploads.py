"""``/v1/images``: parses uploads and queries, and formats what the service says about an image."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from vlrun.errors import OptionError
from vlrun.media.region import Region, parse_region
from vlrun.server.api import schemas, strict_json
from vlrun.server.api.forms import form_fields
from vlrun.server.api.schemas import RequestStruct
from vlrun.server.api.validation import convert, quoted
from vlrun.server.api_errors import bad_request
from vlrun.server.generation_request import EncodedImage
from vlrun.server.image_store import StoredImage
from vlrun.server.images import from_data_url
from vlrun.server.limits import ServerLimits

MAX_QUERY_FIELDS = 4
PREVIEW_SIDE = 2048
"""Longest side of a preview in pixels, unless it asks for less: more than screens show."""
MIN_SIDE = 16
_PAGE = re.compile(r"[1-9][0-9]{0,6}", re.ASCII)
_SIDE = re.compile(r"[1-9][0-9]{1,3}", re.ASCII)


class ImageUpload(RequestStruct):
    """An image or a PDF file to keep."""

    image: schemas.NewDataURL


@dataclass(frozen=True)
class PreviewOptions:
    """How a preview is made: of a region, enhanced, of a page of a PDF file, with what longest side."""

    region: Region | None = None
    enhance: bool = False
    page: str | None = None
    side: int = PREVIEW_SIDE


def parse_upload(content_type: bytes, body: bytes, limits: ServerLimits) -> EncodedImage:
    """The image of a form or a JSON object. Raises ApiError (400)."""
    if not content_type.lower().startswith(b"multipart/"):
        upload = convert(strict_json.parse(body, limits), ImageUpload)
        image = from_data_url(upload.image, "auto", "image")
        if image.reference:
            raise bad_request("image must be a data URL", "image", "url_not_allowed")
        return image
    texts, encoded = form_fields(content_type, body, limits)
    if texts:
        name = min(texts)[:64]
        is_image = name == "image"
        message = "image must be a file, not text" if is_image else f"{quoted(name)} is not a field of this form"
        raise bad_request(message, name, "invalid_type" if is_image else "unknown_parameter")
    if encoded is None:
        raise bad_request("image is missing: send the image's file", "image", "missing_required_parameter")
    if not encoded:
        raise bad_request("the image is empty", "image", "invalid_image")
    return EncodedImage(encoded, "auto", "image")


def parse_preview(query: bytes) -> PreviewOptions:
    """The options of a preview: ``region=120,40,300,200&enhance=true``. Raises ApiError (400)."""
    try:
        text = query.decode("ascii")
        pairs = parse_qsl(text, True, True, errors="strict", max_num_fields=MAX_QUERY_FIELDS) if text else []
    except ValueError:
        raise bad_request(f"a preview has at most {MAX_QUERY_FIELDS} options, NAME=VALUE") from None
    given = dict(pairs)
    if others := given.keys() - {"region", "enhance", "page", "side"}:
        name = min(others)
        raise bad_request(f"{quoted(name)} is not an option of a preview", name[:64], "unknown_parameter")
    if len(given) < len(pairs):
        raise bad_request("an option of a preview is given twice", pairs[0][0])
    if given.get("enhance", "true") not in ("true", "false"):
        raise bad_request("enhance must be true or false", "enhance")
    if "page" in given and not _PAGE.fullmatch(given["page"]):
        raise bad_request("page must be the number of a page, and the first is 1", "page")
    side = given.get("side", str(PREVIEW_SIDE))
    if not (_SIDE.fullmatch(side) and MIN_SIDE <= int(side) <= PREVIEW_SIDE):
        raise bad_request(f"side must be {MIN_SIDE} to {PREVIEW_SIDE} pixels", "side")
    try:
        region = parse_region(given["region"]) if "region" in given else None
    except OptionError as error:
        raise bad_request(error.message[:500], "region") from None
    return PreviewOptions(region, given.get("enhance") == "true", given.get("page"), int(side))


def image_object(image: StoredImage, seconds: float) -> dict[str, Any]:
    """What clients learn about an image. ``seconds``: for which it is kept if nothing uses it."""
    more: dict[str, Any] = {}
    if image.pages:
        more["pages"] = [{"width": width, "height": height} for width, height in image.pages]
    if image.video:
        more["video"] = {"seconds": image.video.duration, "fps": image.video.fps, "frames": image.video.frames}
    return {
        "id": image.id,
        "object": "image",
        "url": f"vlrun:{image.id}",
        "bytes": len(image.encoded),
        "width": image.size[0],
        "height": image.size[1],
        **more,
        "expires_at": int(time.time() + seconds),
    }
