"""Encodes one image: resize, cut into patches, run the vision encoder, which may still be loading."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vlrun.errors import DeviceError, InferenceCancelled, result_of
from vlrun.manifest import Preprocessing, VisionDimensions
from vlrun.media.clip import FramePair
from vlrun.media.image import Image
from vlrun.vision.features import ImageFeatures
from vlrun.vision.grid import Grid
from vlrun.vision.patches import cut
from vlrun.vision.vision_encoder import VisionEncoder

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class PreparedImage:
    """An image or a pair of video frames, and the patch grid that it is encoded in."""

    image: Image | FramePair
    grid: Grid

    @cached_property
    def key(self) -> bytes:
        """Hash of everything but the model that the features depend on."""
        return hashlib.sha256(f"{self.image.sha256} {self.grid}".encode()).digest()

    @property
    def tokens(self) -> int:
        """Number of visual tokens."""
        return self.grid.tokens


class ImageEncoder:
    """Encodes prepared images.

    Args:
        vision_encoder: Returns the backend's vision encoder; the first call starts loading it.
        preprocessing: Mean and standard deviation of the pixels.
        vision: Patch sizes.
    """

    def __init__(
        self,
        vision_encoder: Callable[[], Future[VisionEncoder]],
        preprocessing: Preprocessing,
        vision: VisionDimensions,
    ) -> None:
        self._vision_encoder = vision_encoder
        self._preprocessing = preprocessing
        self._vision = vision
        self._seconds: dict[int, float] = {}
        self._running: tuple[int, float] | None = None

    @property
    def seconds(self) -> dict[int, float]:
        """Shortest encoding time so far, by number of visual tokens."""
        return dict(self._seconds)

    @property
    def running(self) -> tuple[int, float] | None:
        """Visual tokens of the image that is being encoded, and the seconds since it began."""
        running = self._running
        return None if running is None else (running[0], time.perf_counter() - running[1])

    def encode(self, image: PreparedImage, stopped: Callable[[], bool]) -> ImageFeatures:
        """Encode one image.

        Raises:
            InferenceCancelled: When ``stopped``.
            DeviceError: The features are not finite.
            VlrunError: The vision encoder could not be loaded.
        """
        loading = self._vision_encoder()
        patches = cut(image.image, image.grid, self._preprocessing, self._vision)
        while not wait([loading], POLL_SECONDS).done:
            if stopped():
                raise InferenceCancelled
        encoder = result_of(loading)
        start = time.perf_counter()
        self._running = image.tokens, start
        try:
            features = encoder.encode(patches, stopped)
        finally:
            self._running = None
        seconds = time.perf_counter() - start
        if not np.isfinite(features.values).all():  # a precision that overflows; the answer would be nonsense
            raise DeviceError("the image's features are not finite; try another --vision-precision on this device")
        self._seconds[image.tokens] = min(seconds, self._seconds.get(image.tokens, seconds))
        return features
