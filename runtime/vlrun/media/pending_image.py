"""Images whose headers are read before any of them is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from vlrun.media.image import DEFAULT_LIMITS, Image, ImageLimits, ImageSource, image_size, opened_image, read_source


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
            return
        encoded, name = read_source(source, limits)
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


def _can_be_read_again(source: object) -> bool:
    """Return whether reading a source twice gives the same bytes: a pipe is empty after the first time."""
    return isinstance(source, bytes) or (isinstance(source, str | os.PathLike) and Path(source).is_file())
