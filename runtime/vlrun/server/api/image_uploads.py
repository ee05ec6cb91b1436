"""``/v1/images``: parses uploads and queries, and formats what the service says about an image."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
from vlrun.server.images import from_data_url
from vlrun.server.limits import ServerLimits

MAX_QUERY_FIELDS = 2


class ImageUpload(RequestStruct):
    """An image to keep."""

    image: schemas.NewDataURL


@dataclass(frozen=True)
class PreviewOptions:
    """How a preview is made: of a region, enhanced."""

    region: Region | None = None
    enhance: bool = False


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
    if others := given.keys() - {"region", "enhance"}:
        name = min(others)
        raise bad_request(f"{quoted(name)} is not an option of a preview", name[:64], "unknown_parameter")
    if len(given) < len(pairs):
        raise bad_request("an option of a preview is given twice", pairs[0][0])
    if given.get("enhance", "true") not in ("true", "false"):
        raise bad_request("enhance must be true or false", "enhance")
    try:
        region = parse_region(given["region"]) if "region" in given else None
    except OptionError as error:
        raise bad_request(error.message[:500], "region") from None
    return PreviewOptions(region, given.get("enhance") == "true")


def image_object(image_id: str, encoded: bytes, size: Sequence[int], seconds: float) -> dict[str, Any]:
    """What clients learn about an image. ``seconds``: for which it is kept if nothing uses it."""
    return {
        "id": image_id,
        "object": "image",
        "url": f"vlrun:{image_id}",
        "bytes": len(encoded),
        "width": size[0],
        "height": size[1],
        "expires_at": int(time.time() + seconds),
    }
