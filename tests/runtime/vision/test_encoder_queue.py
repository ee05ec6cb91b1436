"""The encoder queue: deduplication, cancellation, prefetching."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.runtime.engine.requests import FakeImage, wait_for
from vlrun.errors import DeviceError, InferenceCancelled
from vlrun.vision.encoder_queue import FEATURE_TOKENS, EncoderQueue
from vlrun.vision.features import ImageFeatures

RED, BLUE = FakeImage(b"red", 4), FakeImage(b"blue", 2)


class BlockingEncoder:
    """Encodes an image when ``go`` is set, and records the order."""

    def __init__(self) -> None:
        self.encoded: list[bytes] = []
        self.go = threading.Event()
        self.error: Exception | None = None

    def encode(self, image: FakeImage, stopped: Callable[[], bool]) -> ImageFeatures:
        while not self.go.wait(0.001):
            if stopped():
                raise InferenceCancelled
        if self.error:
            raise self.error
        self.encoded.append(image.key)
        return ImageFeatures(np.full((1, image.tokens, 3), len(self.encoded), np.float32))


@pytest.fixture
def encoder() -> BlockingEncoder:
    return BlockingEncoder()


@pytest.fixture
def queue(encoder: BlockingEncoder) -> Iterator[EncoderQueue]:
    running = EncoderQueue(encoder.encode)
    yield running
    running.close()


def test_equal_images_are_encoded_once(encoder: BlockingEncoder, queue: EncoderQueue) -> None:
    first, again = queue.submit(RED, threading.Event()), queue.submit(RED, threading.Event())
    other = queue.submit(BLUE, threading.Event())
    encoder.go.set()
    assert first.features.result(5) is again.features.result(5)
    assert other.features.result(5).tokens == 2
    assert encoder.encoded == [b"red", b"blue"]


def test_an_encoding_runs_while_any_request_needs_it(encoder: BlockingEncoder, queue: EncoderQueue) -> None:
    """Guards the second of two requests about one image when the first is cancelled."""
    left, stays = threading.Event(), threading.Event()
    encoding = queue.submit(RED, left)
    assert queue.submit(RED, stays) is encoding
    left.set()
    encoder.go.set()
    assert encoding.features.result(5).tokens == 4


def test_an_encoding_without_requests_is_cancelled(encoder: BlockingEncoder, queue: EncoderQueue) -> None:
    """Both while it runs and while it waits."""
    running, waiting = threading.Event(), threading.Event()
    encodings = queue.submit(RED, running), queue.submit(BLUE, waiting)
    waiting.set()
    running.set()
    for encoding in encodings:
        assert isinstance(encoding.features.exception(5), InferenceCancelled)
    encoder.go.set()
    assert queue.submit(RED, threading.Event()).features.result(5).tokens == 4
    assert encoder.encoded == [b"red"]


def test_a_prefetched_image_is_not_encoded_again(encoder: BlockingEncoder, queue: EncoderQueue) -> None:
    queue.prefetch([RED])
    encoder.go.set()
    wait_for(lambda: encoder.encoded == [b"red"])
    assert queue.submit(RED, threading.Event()).features.result(5).tokens == 4
    assert queue.submit(RED, threading.Event()).features.result(5).tokens == 4
    assert encoder.encoded == [b"red", b"red"]  # kept for the request it was prefetched for, and no longer


def test_prefetching_is_bounded_and_can_be_discarded(encoder: BlockingEncoder, queue: EncoderQueue) -> None:
    """Guards memory: features that no request uses are not kept."""
    images = [FakeImage(bytes([number]), FEATURE_TOKENS // 8) for number in range(11)]
    queue.prefetch(images[:3])
    queue.prefetch(images)
    queue.discard(images[:4])
    encoder.go.set()
    queue.wait_idle()
    unwanted = {image.key for image in (*images[1:4], *images[8:])}  # the first may be encoded already
    assert not unwanted & set(encoder.encoded)
    assert encoder.encoded[-1] == images[7].key
    large = FakeImage(b"large", 2 * FEATURE_TOKENS)
    queue.discard(images)
    queue.prefetch([large, RED])
    queue.wait_idle()
    assert encoder.encoded[-1] == large.key


def test_waiting_until_no_image_is_left(encoder: BlockingEncoder) -> None:
    """Guards loading, which waits for images: it hung for ever if one was added to a queue that was stopped."""
    queue = EncoderQueue(encoder.encode)
    queue.wait_idle()
    for image in (RED, BLUE):
        queue.submit(image, threading.Event())
    encoder.go.set()
    queue.wait_idle()
    assert encoder.encoded == [b"red", b"blue"]
    encoder.go.clear()
    queue.submit(RED, threading.Event())
    queue.close()
    queue.wait_idle()
    queue.prefetch([BLUE])
    queue.wait_idle()


def test_library_errors_become_device_errors(encoder: BlockingEncoder, queue: EncoderQueue) -> None:
    encoder.error = RuntimeError("out of memory")
    encoder.go.set()
    with pytest.raises(DeviceError, match="out of memory"):
        queue.submit(RED, threading.Event()).features.result(5)


def test_closing_cancels_all_encodings_and_ends_the_thread(encoder: BlockingEncoder) -> None:
    before = set(threading.enumerate())  # a model of an earlier test may still be closing in this process
    queue = EncoderQueue(encoder.encode)
    encodings = [queue.submit(image, threading.Event()) for image in (RED, BLUE)]
    assert set(threading.enumerate()) - before
    queue.close()
    assert all(isinstance(encoding.features.exception(5), InferenceCancelled) for encoding in encodings)
    assert not set(threading.enumerate()) - before
