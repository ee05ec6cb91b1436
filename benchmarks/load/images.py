"""Images as many people send them: parts of the examples in all sizes, as PNG, JPEG and WebP. Knows Pillow alone."""

from __future__ import annotations

import base64
import io
import math
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
"""Of the clone."""
SHELF = "shelf.png"
SHELF_QUESTION, SHELF_ANSWER = "How many bottles are there?", "6"
LEAST_SIDE, MOST_SIDE = 64, 1600
"""Pixels of the longer side."""
STRANGE = (320, 256)
"""Pixels of an image that nobody has seen before, width and height."""
PHOTO = (1024, 768)
_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


def shelf() -> bytes:
    """The example whose bottles are counted."""
    return (EXAMPLES / SHELF).read_bytes()


def photo() -> bytes:
    """An image as a camera makes it: a JPEG of ``PHOTO`` pixels with some noise."""
    whole = Image.open(EXAMPLES / SHELF).convert("RGB").resize(PHOTO)
    noise = Image.effect_noise(PHOTO, 40).convert("RGB")
    file = io.BytesIO()
    Image.blend(whole, noise, 0.2).save(file, "JPEG", quality=90)
    return file.getvalue()


def data_url(encoded: bytes, kind: str = "image/png") -> str:
    """As a chat completion takes an image."""
    return f"data:{kind};base64,{base64.b64encode(encoded).decode()}"


class Album:
    """``count`` images as data URLs in ``urls``, the same for the same ``seed``: sizes even on a logarithmic scale
    from the least to the most.
    """

    def __init__(self, count: int, seed: int) -> None:
        names = sorted(path for path in EXAMPLES.glob("*.png"))
        self._examples = [Image.open(path).convert("RGB") for path in names]
        draw = random.Random(seed)
        growth = math.log(MOST_SIDE / LEAST_SIDE) / max(count - 1, 1)
        sides = [round(LEAST_SIDE * math.exp(growth * number)) for number in range(count)]
        self.urls: Sequence[str] = [self._image(side, draw) for side in sides]

    def strange(self, draw: random.Random) -> str:
        """A small image that was never there before: noise over a part of an example."""
        part = self._part(draw).resize(STRANGE)
        noise = Image.frombytes("RGB", STRANGE, draw.randbytes(3 * STRANGE[0] * STRANGE[1]))
        return _encoded(Image.blend(part, noise, 0.1), "JPEG")

    def _image(self, side: int, draw: random.Random) -> str:
        part = self._part(draw)
        scale = side / max(part.size)
        size = tuple(max(round(length * scale), LEAST_SIDE // 2) for length in part.size)
        return _encoded(part.resize((size[0], size[1])), draw.choice(list(_FORMATS)))

    def _part(self, draw: random.Random) -> Image.Image:
        """At least half of an example in each direction."""
        whole = draw.choice(self._examples)
        width, height = (round(length * draw.uniform(0.5, 1)) for length in whole.size)
        left, top = draw.randint(0, whole.width - width), draw.randint(0, whole.height - height)
        return whole.crop((left, top, left + width, top + height))


def _encoded(image: Image.Image, form: str) -> str:
    file = io.BytesIO()
    image.save(file, form)
    return data_url(file.getvalue(), _FORMATS[form])
