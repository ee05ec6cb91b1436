"""From pictures to what the decoder sees of them, by an encoder that may still be on its way.

Pictures can be begun before anybody waits for them: while the decoder is being opened there is nothing better to do.
Knows pictures and the vision encoder; knows neither prompts nor the engine.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

from vlrun.manifest import Manifest
from vlrun.media.image import Picture
from vlrun.model.device import POLL_MS, Abandoned
from vlrun.model.patches import cut
from vlrun.model.positions import FloatArray, Grid
from vlrun.model.vision import VisionEncoder

T = TypeVar("T")


def picture_key(picture: Picture, grid: Grid) -> bytes:
    """A name for all that a picture's visual tokens depend on, but for the model."""
    return hashlib.sha256(f"{picture.sha256} {grid}".encode()).digest()


class Sight:
    """Encodes pictures, at once or ahead of the question."""

    def __init__(self, vision: Future[VisionEncoder], manifest: Manifest) -> None:
        self._vision = vision
        self._manifest = manifest
        self._lock = threading.Lock()
        self._begun: dict[bytes, _Begun] = {}

    def begin(self, picture: Picture, grid: Grid) -> None:
        """Begin with a picture before its features are asked for."""
        key = picture_key(picture, grid)
        with self._lock:
            if key not in self._begun:
                self._begun[key] = _Begun(lambda stopped: self._encode(picture, grid, stopped))

    def encode(self, picture: Picture, grid: Grid, stopped: Callable[[], bool]) -> FloatArray:
        """Image features ``[1 + deepstack, tokens, hidden]``. Raises Abandoned when ``stopped``, and what the encoder's
        opening raises.
        """
        with self._lock:
            begun = self._begun.pop(picture_key(picture, grid), None)
        return begun.take(stopped) if begun else self._encode(picture, grid, stopped)

    def forget(self, pictures: Iterable[tuple[Picture, Grid]]) -> None:
        """Stop what was begun and is not needed after all."""
        for picture, grid in pictures:
            with self._lock:
                begun = self._begun.pop(picture_key(picture, grid), None)
            if begun:
                begun.stop()

    def close(self) -> None:
        """Stop all that was begun, and wait for that."""
        while self._begun:
            with self._lock:
                _, begun = self._begun.popitem()
            begun.stop()
            begun.join()

    def _encode(self, picture: Picture, grid: Grid, stopped: Callable[[], bool]) -> FloatArray:
        patches = cut(picture, grid, self._manifest.preprocessing, self._manifest.vision)
        return _waited(self._vision, stopped).encode(patches, stopped)


class _Begun:
    """A picture that is being encoded. Whoever takes it decides from then on when to stop."""

    def __init__(self, encode: Callable[[Callable[[], bool]], FloatArray]) -> None:
        self._features: Future[FloatArray] = Future()
        self._stopped: Callable[[], bool] = lambda: False
        self._encode = encode
        self._thread = threading.Thread(target=self._run, name="vlrun-ahead", daemon=True)
        self._thread.start()

    def take(self, stopped: Callable[[], bool]) -> FloatArray:
        """The features when they are there. Raises as ``Sight.encode`` does."""
        self._stopped = stopped
        return _waited(self._features, stopped)

    def stop(self) -> None:
        """Nobody wants it."""
        self._stopped = lambda: True

    def join(self) -> None:
        """Wait until it has stopped."""
        self._thread.join()

    def _unwanted(self) -> bool:
        return self._stopped()

    def _run(self) -> None:
        try:
            self._features.set_result(self._encode(self._unwanted))
        except Exception as error:  # noqa: BLE001 - goes to the one who takes it
            self._features.set_exception(error)


def _waited(future: Future[T], stopped: Callable[[], bool]) -> T:
    """The result of a future. Raises Abandoned when ``stopped``."""
    while True:
        try:
            return future.result(POLL_MS / 1000)
        except TimeoutError:
            if future.done():  # its own
                raise
            if stopped():
                raise Abandoned from None
