"""Images for requests: parts of the example images in many sizes, as PNG, JPEG and WebP."""

from __future__ import annotations

import base64
import io
import math
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
"""The example images of the clone."""
SHELF = "shelf.png"
SHELF_QUESTION, SHELF_ANSWER = "How many bottles are there?", "6"
MIN_SIDE, MAX_SIDE = 64, 1600
"""Limits of the longer side in pixels."""
UNSEEN_SIZE = (320, 256)
"""Width and height of an image that was never sent before, in pixels."""
PHOTO_SIZE = (1024, 768)
_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


def shelf() -> bytes:
    """The example image whose bottles are counted."""
    return (EXAMPLES / SHELF).read_bytes()


def photo() -> bytes:
    """A camera-like image: a JPEG of ``PHOTO_SIZE`` with some noise."""
    whole = Image.open(EXAMPLES / SHELF).convert("RGB").resize(PHOTO_SIZE)
    noise = Image.effect_noise(PHOTO_SIZE, 40).convert("RGB")
    file = io.BytesIO()
    Image.blend(whole, noise, 0.2).save(file, "JPEG", quality=90)
    return file.getvalue()


def data_url(encoded: bytes, media_type: str = "image/png") -> str:
    """A data URL, as a chat completion takes an image."""
    return f"data:{media_type};base64,{base64.b64encode(encoded).decode()}"


class ImageSet:
    """``count`` images as data URLs in ``urls``, determined by ``seed``.

    Their sizes are even on a logarithmic scale from the smallest to the largest.
    """

    def __init__(self, count: int, seed: int) -> None:
        names = sorted(path for path in EXAMPLES.glob("*.png"))
        self._examples = [Image.open(path).convert("RGB") for path in names]
        draw = random.Random(seed)
        growth = math.log(MAX_SIDE / MIN_SIDE) / max(count - 1, 1)
        targets = [round(MIN_SIDE * math.exp(growth * number)) for number in range(count)]
        self.urls: Sequence[str] = [self._image(side, draw) for side in targets]

    def unseen_image(self, draw: random.Random) -> str:
        """Draw a small image that was never sent before: noise over a part of an example."""
        part = self._part(draw).resize(UNSEEN_SIZE)
        noise = Image.frombytes("RGB", UNSEEN_SIZE, draw.randbytes(3 * UNSEEN_SIZE[0] * UNSEEN_SIZE[1]))
        return _encode(Image.blend(part, noise, 0.1), "JPEG")

    def _image(self, side: int, draw: random.Random) -> str:
        part = self._part(draw)
        scale = side / max(part.size)
        size = tuple(max(round(length * scale), MIN_SIDE // 2) for length in part.size)
        return _encode(part.resize((size[0], size[1])), draw.choice(list(_FORMATS)))

    def _part(self, draw: random.Random) -> Image.Image:
        """Crop at least half of an example in each direction."""
        whole = draw.choice(self._examples)
        width, height = (round(length * draw.uniform(0.5, 1)) for length in whole.size)
        left, top = draw.randint(0, whole.width - width), draw.randint(0, whole.height - height)
        return whole.crop((left, top, left + width, top + height))


def _encode(image: Image.Image, image_format: str) -> str:
    file = io.BytesIO()
    image.save(file, image_format)
    return data_url(file.getvalue(), _FORMATS[image_format])
