"""From images to what the decoder sees of them, by an encoder that may still be on its way.

Images can be begun before anybody waits for them: while the decoder is being opened there is nothing better to do.
Knows images and the vision encoder; knows neither prompts nor the engine.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from vlrun.errors import InferenceCancelled
from vlrun.manifest import Manifest
from vlrun.media.image import Image
from vlrun.promise import Promise
from vlrun.types.arrays import FloatArray
from vlrun.vision.grid import Grid
from vlrun.vision.patches import Patches, cut

T = TypeVar("T")

POLL_SECONDS = 0.05
MOST_BEGUN = 8
"""Images begun and not yet taken. What comes out of one of 1024 x 768 takes 25 MB in the 2B model."""


class VisionEncoder(Protocol):
    """What the queue needs of a backend's vision encoder."""

    def encode(self, patches: Patches, stopped: Callable[[], bool]) -> FloatArray:
        """Image features ``[1 + deepstack, tokens, hidden]``. Raises InferenceCancelled when ``stopped``."""


def image_key(image: Image, grid: Grid) -> bytes:
    """A name for all that an image's visual tokens depend on, but for the model."""
    return hashlib.sha256(f"{image.sha256} {grid}".encode()).digest()


class EncoderQueue:
    """Encodes images, at once or ahead of the question; those ahead one after the other, in a thread of its own."""

    def __init__(self, vision: Callable[[], Promise[Any]], manifest: Manifest) -> None:
        self._vision = vision
        self._manifest = manifest
        self._lock = threading.Lock()
        self._begun: dict[bytes, _Begun] = {}
        self._to_do: queue.SimpleQueue[_Begun | None] = queue.SimpleQueue()
        self._all: list[_Begun] = []
        self.seconds: dict[int, float] = {}
        """The least that images took, by their visual tokens."""
        self._thread: threading.Thread | None = None

    def begin(self, image: Image, grid: Grid) -> None:
        """Begin with an image before its features are asked for, unless too many are begun already."""
        key = image_key(image, grid)
        with self._lock:
            if key in self._begun or len(self._begun) >= MOST_BEGUN:
                return
            begun = self._begun[key] = _Begun(image, grid)
            self._all.append(begun)
            self._to_do.put(begun)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="vlrun-ahead", daemon=True)
                self._thread.start()

    def encode(self, image: Image, grid: Grid, stopped: Callable[[], bool]) -> FloatArray:
        """Image features ``[1 + deepstack, tokens, hidden]``. Raises Abandoned when ``stopped``, and what the encoder's
        opening raises.
        """
        with self._lock:
            begun = self._begun.pop(image_key(image, grid), None)
        if begun is None:
            return self._encode(image, grid, stopped)
        begun.stopped = stopped  # whoever takes it decides from now on
        return _waited(begun.features, stopped)

    def forget(self, images: Iterable[tuple[Image, Grid]]) -> None:
        """Stop what was begun and is not needed after all."""
        for image, grid in images:
            with self._lock:
                begun = self._begun.pop(image_key(image, grid), None)
            if begun:
                begun.stop()

    def stop(self) -> None:
        """Stop all that was begun, and wait for nothing."""
        with self._lock:
            self._begun.clear()
            for begun in self._all:
                begun.stop()
            self._to_do.put(None)

    def close(self) -> None:
        """Stop all that was begun, and wait until it has."""
        self.stop()
        if self._thread:
            self._thread.join()

    def _work(self) -> None:
        """The thread."""
        while (begun := self._to_do.get()) is not None:
            begun.run(self._encode)
            with self._lock:
                self._all.remove(begun)

    def _encode(self, image: Image, grid: Grid, stopped: Callable[[], bool]) -> FloatArray:
        if stopped():
            raise InferenceCancelled
        encoder = self._vision()
        patches = cut(image, grid, self._manifest.preprocessing, self._manifest.vision)
        opened = _waited(encoder, stopped)
        began = time.perf_counter()
        features: FloatArray = opened.encode(patches, stopped)
        seconds = time.perf_counter() - began
        with self._lock:
            self.seconds[grid.tokens] = min(seconds, self.seconds.get(grid.tokens, seconds))
        return features


class _Begun:
    """An image that is to be encoded ahead."""

    def __init__(self, image: Image, grid: Grid) -> None:
        self.features: Promise[FloatArray] = Promise()
        self.stopped: Callable[[], bool] = lambda: False
        self._image, self._grid = image, grid

    def stop(self) -> None:
        """Nobody wants it."""
        self.stopped = lambda: True

    def run(self, encode: Callable[[Image, Grid, Callable[[], bool]], FloatArray]) -> None:
        """Make the features, unless nobody wants them."""
        self.features.keep(lambda: encode(self._image, self._grid, self._unwanted))

    def _unwanted(self) -> bool:
        return self.stopped()


def _waited(promise: Promise[T], stopped: Callable[[], bool]) -> T:
    """What was promised. Raises Abandoned when ``stopped``."""
    while not promise.wait(POLL_SECONDS):
        if stopped():
            raise InferenceCancelled
    return promise.result()
