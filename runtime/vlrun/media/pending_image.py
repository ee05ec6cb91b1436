"""Images whose headers are read before any of them is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from vlrun.errors import MediaTooLarge, OptionError
from vlrun.media.image import DEFAULT_LIMITS, Image, ImageLimits, ImageSource, check_pixels, image_size, opened_image
from vlrun.media.sources import UNNAMED, read_source

MAX_IMAGES = 64
MAX_TOTAL_PIXELS = 1_000_000_000
"""Of all images of a question: 64 photos of 15 megapixels. A conversation keeps 3 bytes of each."""


class PendingImage:
    """A source whose header was read. Its pixels are not kept, and its bytes only if they cannot be read again.

    Attributes:
        size: Width and height before rotation.

    Raises:
        MediaError: As ``open_image``, for what the header shows.
    """

    def __init__(self, source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> None:
        self._source = source
        self._limits = limits
        if isinstance(source, np.ndarray):
            with self.opened() as image:
                self._source = image
        if isinstance(self._source, Image | PILImage.Image):
            self.size = self._source.size
            if isinstance(self._source, PILImage.Image):
                check_pixels(self.size, UNNAMED, limits)
            return
        encoded, name = read_source(source, limits.max_bytes)
        self.size = image_size(encoded, limits, name)
        if not _can_be_read_again(source):
            self._source = encoded

    @property
    def pixels(self) -> int:
        """Width x height."""
        return self.size[0] * self.size[1]

    @contextmanager
    def opened(self) -> Iterator[Image]:
        """Open it as ``opened_image`` does."""
        with opened_image(self._source, self._limits) as image:
            yield image


def read_headers(sources: Sequence[ImageSource]) -> list[PendingImage]:
    """Read the headers of the images of a question, before any is decoded.

    Raises:
        MediaError: As ``open_image``, for what a header shows, or if the images have too many pixels together.
        OptionError: There are too many.
    """
    if len(sources) > MAX_IMAGES:
        raise OptionError(f"a question can have at most {MAX_IMAGES} images, not {len(sources)}")
    pending: list[PendingImage] = []
    for source in sources:
        pending.append(PendingImage(source))
        if sum(image.pixels for image in pending) > MAX_TOTAL_PIXELS:
            limit = f"{MAX_TOTAL_PIXELS // 1_000_000:,} megapixels"
            raise MediaTooLarge(f"the images have more than {limit} together, the limit: use fewer or smaller ones")
    return pending


def open_images(sources: Sequence[ImageSource]) -> list[Image]:
    """Open the images of a question. Raises as ``read_headers`` and ``open_image``."""
    images = []
    for pending in read_headers(sources):
        with pending.opened() as image:
            images.append(image)
    return images


def _can_be_read_again(source: object) -> bool:
    """Return whether reading a source twice gives the same bytes: a pipe is empty after the first time."""
    return isinstance(source, bytes) or (isinstance(source, str | os.PathLike) and Path(source).is_file())
