"""The encoder queue: one thread that encodes images one after another.

The engine submits an image when a running request needs its features. While the decoder is still loading, images can be
prefetched. Equal images are encoded once for all requests.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Protocol, TypeAlias

from vlrun.errors import InferenceCancelled, as_vlrun_error
from vlrun.vision.features import ImageFeatures

FEATURE_TOKENS = 4096
"""Visual tokens of a request that are encoded and not prefilled yet: 128 MiB of features in the 2B model. As many are
encoded before requests submit them."""


class Encodable(Protocol):
    """An image that the queue can encode."""

    @property
    def key(self) -> bytes:
        """Hash of everything but the model that the features depend on."""

    @property
    def tokens(self) -> int:
        """Number of visual tokens."""


Encode: TypeAlias = Callable[[Any, Callable[[], bool]], ImageFeatures]
"""Encodes an Encodable. Raises InferenceCancelled when the second argument returns true."""


class Encoding:
    """One image in the queue. It is cancelled when all requests that need it are closed."""

    def __init__(self, image: Encodable, closed: threading.Event) -> None:
        self.image = image
        self.features: Future[ImageFeatures] = Future()
        self.requesters = [closed]
        """Events of the requests that need the features, set when a request ends."""

    def cancelled(self) -> bool:
        """Return whether no request needs the features any more."""
        return all(closed.is_set() for closed in list(self.requesters))


class EncoderQueue:
    """Runs ``encode`` in its own thread, which starts with the first image."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Encoding | None] = queue.SimpleQueue()
        self._encodings: dict[bytes, Encoding] = {}
        self._prefetched: dict[bytes, threading.Event] = {}
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._idle = threading.Event()
        self._idle.set()

    def submit(self, image: Encodable, closed: threading.Event) -> Encoding:
        """Encode an image, or join the encoding of an equal one. ``closed`` is set when the request ends."""
        with self._lock:
            encoding = self._encodings.get(image.key)
            if encoding is None or encoding.cancelled():
                return self._add(image, closed)
            encoding.requesters.append(closed)
            if image.key in self._prefetched:
                self._prefetched.pop(image.key).set()
                if encoding.features.done():
                    del self._encodings[image.key]
            return encoding

    def prefetch(self, images: Iterable[Encodable]) -> None:
        """Encode images before a request submits them: one, or as many as have ``FEATURE_TOKENS``."""
        with self._lock:
            tokens = sum(self._encodings[key].image.tokens for key in self._prefetched)
            for image in images:
                if image.key in self._encodings:
                    continue
                if tokens and tokens + image.tokens > FEATURE_TOKENS:
                    break
                tokens += image.tokens
                discarded = self._prefetched[image.key] = threading.Event()
                self._add(image, discarded)

    def discard(self, images: Iterable[Encodable]) -> None:
        """Cancel prefetched images that no request has submitted."""
        with self._lock:
            for image in images:
                if image.key in self._prefetched:
                    self._prefetched.pop(image.key).set()
                    del self._encodings[image.key]

    def wait_idle(self) -> None:
        """Wait until no image is left, or the queue was stopped."""
        self._idle.wait()

    def stop(self) -> None:
        """Cancel all encodings and end the thread, without waiting."""
        self._stopped.set()
        with self._lock:
            self._encodings.clear()
            self._prefetched.clear()
            self._idle.set()
        self._queue.put(None)

    def close(self) -> None:
        """Stop, and wait until the thread has ended."""
        self.stop()
        if self._thread:
            self._thread.join()

    def _add(self, image: Encodable, closed: threading.Event) -> Encoding:
        encoding = self._encodings[image.key] = Encoding(image, closed)
        if not self._stopped.is_set():  # else nobody would set it again
            self._idle.clear()
        self._queue.put(encoding)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vlrun-vision", daemon=True)
            self._thread.start()
        return encoding

    def _run(self) -> None:
        while encoding := self._queue.get():
            self._process(encoding)
            del encoding  # its features must not stay in memory while the queue is empty
            with self._lock:
                if self._queue.empty():
                    self._idle.set()

    def _process(self, encoding: Encoding) -> None:
        features: ImageFeatures | None = None
        error: BaseException = InferenceCancelled()
        try:
            if not self._cancelled(encoding):
                features = self._encode(encoding.image, lambda: self._cancelled(encoding))
        except BaseException as raised:  # noqa: BLE001 - re-raised in the waiting threads
            error = as_vlrun_error(raised)
        key = encoding.image.key
        with self._lock:
            if self._encodings.get(key) is encoding and key not in self._prefetched:
                del self._encodings[key]
        if features is not None:
            encoding.features.set_result(features)
        else:
            encoding.features.set_exception(error)

    def _cancelled(self, encoding: Encoding) -> bool:
        return self._stopped.is_set() or encoding.cancelled()
