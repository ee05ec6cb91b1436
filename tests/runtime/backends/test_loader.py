"""Loading in the background: the first image is encoded while the decoder loads."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.paths import EXAMPLES
from vlrun import VLM, CacheConfig, Hints, Options, load
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.tuned import Tuned, save_tuned
from vlrun.backends.openvino.vision_encoder import OpenVINOVisionEncoder
from vlrun.embedded import FOLDER
from vlrun.errors import (
    ContextLengthExceeded,
    DamagedModel,
    DeviceError,
    EngineClosed,
    InferenceCancelled,
    ModelChanged,
    OptionError,
)
from vlrun.models.model_folder import ModelFolder
from vlrun.perf.history import record
from vlrun.perf.profile import SpeedProfile
from vlrun.prompt.builder import Images, user_turn
from vlrun.vision.features import ImageFeatures
from vlrun.vision.grid import Grid
from vlrun.vision.vision_encoder import Patches

pytestmark = pytest.mark.slow

IMAGE = EXAMPLES / "shelf.png"
OTHER, ANOTHER = (np.full((64, 64, 3), grey, np.uint8) for grey in (90, 190))
QUESTION = "How many bottles are there?"
OPTIONS = Options(max_tokens=8, temperature=0)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record when the decoder is loaded, which takes long, and every encoded image."""
    recorded: list[str] = []
    load_decoder, encode = OpenVINODecoder.__init__, OpenVINOVisionEncoder.encode

    def load_slowly(self: OpenVINODecoder, *given: Any) -> None:
        given[0].compiling.set()
        deadline, earliest = time.monotonic() + 60, time.monotonic() + 2
        while time.monotonic() < earliest or (
            encoder_running() and "image" not in recorded and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        load_decoder(self, *given)
        recorded.append("decoder")

    def record_encode(self: OpenVINOVisionEncoder, *given: Any) -> Any:
        recorded.append("image")
        return encode(self, *given)

    monkeypatch.setattr(OpenVINODecoder, "__init__", load_slowly)
    monkeypatch.setattr(OpenVINOVisionEncoder, "encode", record_encode)
    return recorded


def encoder_running() -> bool:
    return any(thread.name == "vlrun-vision" for thread in threading.enumerate())


def test_the_first_image_is_encoded_while_the_decoder_loads(events: list[str]) -> None:
    """It is not encoded if a stored prefix seems to cover it."""
    with load(cache=CacheConfig(kv_disk=2**30), wait=False) as vlm:
        first = vlm.ask(IMAGE, QUESTION, OPTIONS)
    assert events == ["image", "decoder"]
    events.clear()
    with load(cache=CacheConfig(kv_disk=2**30), wait=False) as vlm:
        again = vlm.ask(IMAGE, QUESTION, OPTIONS)
    assert events == ["decoder"]
    assert again.text == first.text == "6"
    assert again.usage.cached_tokens


def test_an_unusable_stored_prefix_only_delays_the_encoding(events: list[str], tmp_path: Path) -> None:
    with load(cache=CacheConfig(kv_disk=2**30)) as vlm:
        first = vlm.ask(IMAGE, QUESTION, OPTIONS)
    (stored,) = (tmp_path / "vlrun" / "prefixes").glob("*.kv")
    stored.write_bytes(b"x" * 1000)
    events.clear()
    with load(cache=CacheConfig(kv_disk=2**30), wait=False) as vlm:
        assert vlm.ask(IMAGE, QUESTION, OPTIONS).text == first.text
    assert events == ["decoder", "image"]


def test_concurrent_first_questions_share_one_encoding(events: list[str]) -> None:
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
    assert events == ["image", "decoder"]


def test_the_vision_encoder_is_freed_and_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the weights of the decoder are repacked, so that both are not in memory; the answers are the same."""
    alive: weakref.WeakSet[OpenVINOVisionEncoder] = weakref.WeakSet()
    loaded, during_warm_up = [], []
    load_encoder, warm_up = OpenVINOVisionEncoder.__init__, OpenVINODecoder.warm_up

    def counted(self: OpenVINOVisionEncoder, *given: Any) -> None:
        load_encoder(self, *given)
        alive.add(self)
        loaded.append(1)

    def watched(self: OpenVINODecoder) -> None:
        during_warm_up.append(len(alive))
        warm_up(self)

    monkeypatch.setattr(OpenVINOVisionEncoder, "__init__", counted)
    monkeypatch.setattr(OpenVINODecoder, "warm_up", watched)
    answers = []
    asked: list[Images] = [[IMAGE, OTHER], IMAGE, ANOTHER, []]
    for keep in (True, False):
        with load(cache=CacheConfig(keep_vision_encoder=keep), wait=False) as vlm:
            answers.append([vlm.ask(asked[0], QUESTION, OPTIONS).text])
            assert len(alive) == keep
            answers[-1] += [vlm.ask(images, QUESTION, OPTIONS).text for images in asked[1:]]
        del vlm
        gc.collect()
    assert answers[0] == answers[1]
    assert during_warm_up[1] == 0
    assert len(loaded) == 1 + 2  # again for the image whose features are not in the cache


def test_the_process_waits_for_a_vision_encoder_that_is_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards an abort (SIGABRT) when a chat ended soon after its first question: the thread was a daemon."""
    daemons = []
    load_encoder = OpenVINOVisionEncoder.__init__

    def recorded(self: OpenVINOVisionEncoder, *given: Any) -> None:
        daemons.append(threading.current_thread().daemon)
        load_encoder(self, *given)

    monkeypatch.setattr(OpenVINOVisionEncoder, "__init__", recorded)
    with load(wait=False) as vlm:
        assert vlm.ask([], "Hi", OPTIONS).text  # the decoder is loaded now
        assert vlm.ask(IMAGE, QUESTION, OPTIONS).text == "6"
    assert daemons == [False]


def test_closing_does_not_wait_for_an_image_that_the_decoder_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding = threading.Event()

    def encode(_: object, __: Patches, stopped: Callable[[], bool]) -> ImageFeatures:
        encoding.set()
        while not stopped():
            time.sleep(0.01)
        raise InferenceCancelled

    monkeypatch.setattr(OpenVINOVisionEncoder, "encode", encode)
    vlm = load(cache=CacheConfig(keep_vision_encoder=False), wait=False)
    asking = threading.Thread(target=lambda: vlm.chat([user_turn(IMAGE, QUESTION)]), daemon=True)
    with monkeypatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda _: None)
        asking.start()
        assert encoding.wait(60)
        vlm.close()
        asking.join(60)
    assert not asking.is_alive()
    with pytest.raises(EngineClosed):
        _ = vlm.context


def test_load_errors_are_raised_by_the_first_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``wait=False``, errors of the device, the cache size and either model keep their type."""
    with load(hints=Hints(device="GPU"), wait=False) as vlm, pytest.raises(DeviceError, match="no device 'GPU'"):
        vlm.ask(IMAGE, QUESTION)
    with load(cache=CacheConfig(context=10**6), wait=False) as vlm, pytest.raises(OptionError, match="at most"):
        vlm.ask(IMAGE, QUESTION)

    def damaged(*_: object) -> None:
        raise DamagedModel("the vision encoder is damaged")

    monkeypatch.setattr(OpenVINOVisionEncoder, "__init__", damaged)
    with load(wait=False) as vlm:
        assert vlm.ask([], "Hi", OPTIONS).usage.completion_tokens  # a text needs no vision encoder
        with pytest.raises(DamagedModel, match="vision encoder"):
            vlm.ask(IMAGE, QUESTION)
    with pytest.raises(DamagedModel, match="vision encoder"):
        load()


def test_a_failed_prefetch_fails_only_its_question(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_closing_stops_running_and_waiting_encodings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is left inside an inference."""
    encoded = []

    def encode_forever(_: OpenVINOVisionEncoder, patches: object, stopped: Callable[[], bool]) -> None:
        encoded.append(patches)
        while not stopped():
            time.sleep(0.01)
        raise InferenceCancelled

    monkeypatch.setattr(OpenVINOVisionEncoder, "encode", encode_forever)
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


def test_a_failed_load_leaves_no_objects_or_threads() -> None:
    """Guards against an exception that keeps the model alive."""
    count, before = count_models(), set(threading.enumerate())
    for _ in range(3):
        with pytest.raises(OptionError, match="at most"):
            load(cache=CacheConfig(context=10**6))
    until = time.monotonic() + 20
    while time.monotonic() < until and (count_models() > count or set(threading.enumerate()) - before):
        time.sleep(0.05)
    assert count_models() <= count
    assert not set(threading.enumerate()) - before


def count_models() -> int:
    gc.collect()
    return sum(type(value) in (VLM, OpenVINODecoder, OpenVINOVisionEncoder) for value in gc.get_objects())


def test_images_of_a_refused_prompt_are_not_encoded(events: list[str]) -> None:
    """The prompt's length is known before the decoder is loaded."""
    with load(wait=False) as vlm, pytest.raises(ContextLengthExceeded):
        vlm.ask([IMAGE] * 64, "word " * 400)
    assert "image" not in events


@pytest.mark.fault(47)
def test_special_files_in_the_cache_only_disable_it(tmp_path: Path) -> None:
    """Guards FIFOs, which blocked for ever, and endless devices, in place of every file that vlrun keeps."""
    cache = CacheConfig(kv_disk=2**30)
    save_tuned(Tuned("f32", None, 128, None, 1.0, 2.0), ModelFolder(FOLDER).fingerprint, "CPU")
    record(ModelFolder(FOLDER).fingerprint, str(Hints()), SpeedProfile(decode=1.0))
    with load(cache=cache) as vlm:
        expected = vlm.ask(IMAGE, QUESTION, OPTIONS)
    kept = [path for path in (tmp_path / "vlrun").rglob("*") if path.is_file()]
    assert {path.parent.name for path in kept} >= {"prefixes", "speed", "tuned", "verified"}
    for path in kept:
        path.unlink()
        os.mkfifo(path) if path.parent.name in {"prefixes", "verified"} else path.symlink_to("/dev/zero")
    with load(cache=cache) as vlm:
        answer = vlm.ask(IMAGE, QUESTION, OPTIONS)
    assert (answer.text, answer.usage.cached_tokens) == (expected.text, 0)


@pytest.mark.fault(56)
def test_a_loaded_model_does_not_depend_on_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a relative path after chdir, and a folder that is switched or removed before the first image: the vision
    encoder, the tokenizer of schemas and the heat map belong to the model that was loaded.
    """
    shutil.copytree(FOLDER, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    schema = {"type": "integer"}
    with load("model", wait=False) as vlm:
        (tmp_path / "model").rename(tmp_path / "old")
        (tmp_path / "model").mkdir()
        for name in ("decoder.bin", "vision.bin", "tokenizer.json", "chat_template.jinja", "manifest.json"):
            (tmp_path / "model" / name).write_text("another model")
        shutil.rmtree(tmp_path / "old")
        monkeypatch.chdir("/")
        assert vlm.ask([], "Hi", OPTIONS).usage.completion_tokens
        answer = vlm.ask(IMAGE, QUESTION, Options(max_tokens=8, temperature=0, schema=schema, heatmap=True))
        assert answer.value == 6
        assert answer.heat


@pytest.mark.fault(45)
@pytest.mark.parametrize(("name", "damage"), [("decoder.bin", "cut short"), ("vision.bin", "half a copy")])
def test_changed_weights_give_no_answer_and_are_not_stored(tmp_path: Path, name: str, damage: str) -> None:
    """Guards a folder that is overwritten under a running process: its wrong features and prefixes were stored under
    the good model's name, and used for ever after the file was restored. A mapped file that was cut short is SIGBUS.
    """
    folder, cache = tmp_path / "model", CacheConfig(kv_disk=2**30)
    shutil.copytree(FOLDER, folder)
    path, good = folder / name, (folder / name).read_bytes()
    with load(folder, cache=cache) as vlm:
        assert vlm.ask(IMAGE, QUESTION, OPTIONS).text == "6"
        status = path.stat()
        with path.open("r+b") as file:
            file.truncate(100) if damage == "cut short" else file.write(bytes(len(good) // 2))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        for _ in range(2):
            with pytest.raises(ModelChanged, match=rf"{name} in '.*' was changed"):
                vlm.ask(OTHER, QUESTION, OPTIONS)
        assert not vlm.state().progressing  # vlrun serve is restarted
        path.write_bytes(good)
    with load(folder, cache=cache) as vlm:
        first = vlm.ask(IMAGE, QUESTION, OPTIONS)
        assert (first.text, first.usage.cached_tokens > 0) == ("6", True)
        assert vlm.ask(OTHER, QUESTION, OPTIONS).usage.cached_tokens < 32


def test_ctrl_c_during_an_inference_raises_keyboard_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread warms up the encoder; the inference ends before the exception is raised."""

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(OpenVINOVisionEncoder, "warm_up", lambda self: encode_until(self, interrupt))
    with pytest.raises(KeyboardInterrupt):
        load()


def encode_until(encoder: OpenVINOVisionEncoder, stopped: Callable[..., bool]) -> None:
    grid = Grid(64, 64, 2)
    pixels = np.zeros((grid.patches, 3 * 2 * 16**2), np.float32)
    encoder.encode(Patches(pixels, grid), stopped)
