"""Loading in the background: the first question begins while the decoder is still being opened."""

from __future__ import annotations

import gc
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.paths import EXAMPLES
from vlrun import VLM, CacheConfig, Hints, Options, load
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.vision_encoder import OpenVINOVisionEncoder
from vlrun.embedded import FOLDER
from vlrun.errors import ContextLengthExceeded, DamagedModel, DeviceError, EngineClosed, InferenceCancelled, OptionError
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches

pytestmark = pytest.mark.slow

IMAGE = EXAMPLES / "shelf.png"
QUESTION = "How many bottles are there?"
OPTIONS = Options(max_tokens=8, temperature=0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened when: a decoder that opens slowly, and every image that is encoded."""
    happened: list[str] = []
    open_decoder, encode = OpenVINODecoder.__init__, OpenVINOVisionEncoder.encode

    def slowly(self: OpenVINODecoder, *given: Any) -> None:
        given[0].compiling.set()  # the compiler is what takes long
        until, least = time.monotonic() + 60, time.monotonic() + 2
        while time.monotonic() < least or (_encoding() and "image" not in happened and time.monotonic() < until):
            time.sleep(0.01)
        open_decoder(self, *given)
        happened.append("decoder")

    def noted(self: OpenVINOVisionEncoder, *given: Any) -> Any:
        happened.append("image")
        return encode(self, *given)

    monkeypatch.setattr(OpenVINODecoder, "__init__", slowly)
    monkeypatch.setattr(OpenVINOVisionEncoder, "encode", noted)
    return happened


def _encoding() -> bool:
    return any(thread.name == "vlrun-vision" for thread in threading.enumerate())


def test_the_first_image_is_encoded_while_the_decoder_opens(order: list[str]) -> None:
    """Guards the overlap: encoded once, before the decoder is there; not at all if the disk seems to know it."""
    with load(cache=CacheConfig(kv_disk=2**30), wait=False) as vlm:
        first = vlm.ask(IMAGE, QUESTION, OPTIONS)
    assert order == ["image", "decoder"]
    order.clear()
    with load(cache=CacheConfig(kv_disk=2**30), wait=False) as vlm:
        again = vlm.ask(IMAGE, QUESTION, OPTIONS)
    assert order == ["decoder"]
    assert again.text == first.text == "6"
    assert again.usage.cached_tokens


def test_a_hint_that_is_wrong_costs_time_alone(order: list[str], tmp_path: Path) -> None:
    """Guards a prefix that is stored and cannot be used (another model's, a damaged one): the image is encoded."""
    with load(cache=CacheConfig(kv_disk=2**30)) as vlm:
        first = vlm.ask(IMAGE, QUESTION, OPTIONS)
    (stored,) = (tmp_path / "vlrun" / "prefixes").glob("*.kv")
    stored.write_bytes(b"x" * 1000)
    order.clear()
    with load(cache=CacheConfig(kv_disk=2**30), wait=False) as vlm:
        assert vlm.ask(IMAGE, QUESTION, OPTIONS).text == first.text
    assert order == ["decoder", "image"]


def test_two_at_once_share_what_was_begun(order: list[str]) -> None:
    """Guards two threads that ask about one image while the model is loading."""
    answers: list[str] = []
    with load(wait=False) as vlm:
        threads = [
            threading.Thread(target=lambda: answers.append(vlm.ask(IMAGE, QUESTION, OPTIONS).text)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["6", "6"]
    assert order == ["image", "decoder"]


def test_what_is_wrong_comes_with_the_first_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards ``wait=False``: errors of the device, the room and either half arrive as themselves, and close ends."""
    with load(hints=Hints(device="GPU"), wait=False) as vlm, pytest.raises(DeviceError, match="no device 'GPU'"):
        vlm.ask(IMAGE, QUESTION)
    with load(cache=CacheConfig(context=10**6), wait=False) as vlm, pytest.raises(OptionError, match="at most"):
        vlm.ask(IMAGE, QUESTION)

    def damaged(*_: object) -> None:
        raise DamagedModel("the vision encoder is damaged")

    monkeypatch.setattr(OpenVINOVisionEncoder, "__init__", damaged)
    with load(wait=False) as vlm:
        assert vlm.ask([], "Hi", OPTIONS).usage.completion_tokens  # a text needs no eyes
        with pytest.raises(DamagedModel, match="vision encoder"):
            vlm.ask(IMAGE, QUESTION)
    with pytest.raises(DamagedModel, match="vision encoder"):
        load()


def test_an_encoder_that_fails_is_told_to_the_one_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards an encoding that fails ahead of the question: the answer fails, the model lives."""
    encode, failures = OpenVINOVisionEncoder.encode, [RuntimeError("out of memory")]

    def fails_once(self: OpenVINOVisionEncoder, *given: Any) -> Any:
        if failures:
            raise failures.pop()
        return encode(self, *given)

    monkeypatch.setattr(OpenVINOVisionEncoder, "encode", fails_once)
    with load(wait=False) as vlm:
        with pytest.raises(DeviceError, match="out of memory"):
            vlm.ask(IMAGE, QUESTION, OPTIONS)
        assert vlm.ask(IMAGE, QUESTION, OPTIONS).text == "6"


def test_closing_stops_what_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards images that nobody wants any more: close waits for none of them to be encoded, whether they were taken
    by the engine or not, and leaves no thread in the middle of an inference.
    """
    encoded = []

    def for_ever(_: OpenVINOVisionEncoder, patches: object, stopped: Callable[[], bool]) -> None:
        encoded.append(patches)
        while not stopped():
            time.sleep(0.01)
        raise InferenceCancelled

    monkeypatch.setattr(OpenVINOVisionEncoder, "encode", for_ever)
    before = set(threading.enumerate())
    vlm = load(wait=False)
    images = [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in range(4)]
    chunks = vlm.stream(images, QUESTION)

    def read() -> None:
        with pytest.raises(EngineClosed):
            list(chunks)

    reader = threading.Thread(target=read)
    reader.start()
    while not encoded:
        time.sleep(0.01)
    began = time.monotonic()
    vlm.close()
    assert time.monotonic() - began < 5
    reader.join()
    assert len(encoded) == 1
    assert not [thread for thread in set(threading.enumerate()) - before if "open" not in thread.name]
    with pytest.raises(EngineClosed):
        vlm.ask([], "Hi")


def test_a_load_that_fails_leaves_nothing() -> None:
    """Guards memory and threads: neither the error that was told nor the end of the process holds on to the model."""
    alive, before = _alive(), set(threading.enumerate())
    for _ in range(3):
        with pytest.raises(OptionError, match="at most"):
            load(cache=CacheConfig(context=10**6))
    until = time.monotonic() + 20
    while time.monotonic() < until and (_alive() > alive or set(threading.enumerate()) - before):
        time.sleep(0.05)
    assert _alive() <= alive
    assert not set(threading.enumerate()) - before


def _alive() -> int:
    gc.collect()
    return sum(type(one) in (VLM, OpenVINODecoder, OpenVINOVisionEncoder) for one in gc.get_objects())


def test_what_cannot_fit_is_not_begun(order: list[str]) -> None:
    """Guards against work for a prompt that is refused anyway: that can be known before the decoder is there."""
    with load(wait=False) as vlm, pytest.raises(ContextLengthExceeded):
        vlm.ask([IMAGE] * 64, "word " * 400)
    assert "image" not in order


def test_a_folder_that_is_replaced_while_it_loads(tmp_path: Path, order: list[str]) -> None:
    """Guards the caches: what the old weights compute must not be kept under the new model's name."""
    folder = tmp_path / "model"
    shutil.copytree(FOLDER, folder)
    with load(folder, wait=False) as vlm:
        manifest = (folder / "manifest.json").read_bytes()
        (folder / "manifest.json").write_bytes(manifest.replace(b"vlrun-tiny", b"vlrun-tony"))
        with pytest.raises(DamagedModel, match="replaced while it was being loaded"):
            vlm.ask(IMAGE, QUESTION)


def test_ctrl_c_in_an_inference_is_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the main thread, which warms the encoder up: an interruption is told as such, the inference ended."""

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(OpenVINOVisionEncoder, "warm_up", lambda self: _interrupted_encode(self, interrupted))
    with pytest.raises(KeyboardInterrupt):
        load()


def _interrupted_encode(encoder: OpenVINOVisionEncoder, interrupted: Callable[..., bool]) -> None:
    grid = Grid(64, 64, 2)
    pixels = np.zeros((grid.patches, 3 * 2 * 16**2), np.float32)
    encoder.encode(Patches(pixels, grid), interrupted)
