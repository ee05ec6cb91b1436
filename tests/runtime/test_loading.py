"""Loading in the background: the first question begins while the decoder is still being opened."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlrun import Hints, Options, Room, load
from vlrun.errors import DamagedModel, DeviceError, EngineClosed, OptionError
from vlrun.model.decoder import Decoder
from vlrun.model.device import Abandoned
from vlrun.model.vision import VisionEncoder

PICTURE = Path(__file__).parents[2] / "examples" / "shelf.png"
QUESTION = "How many bottles are there?"
OPTIONS = Options(max_tokens=8, temperature=0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened when: a decoder that opens slowly, and every picture that is encoded."""
    happened: list[str] = []
    open_decoder, encode = Decoder.__init__, VisionEncoder.encode

    def slowly(self: Decoder, *given: Any) -> None:
        time.sleep(2)
        open_decoder(self, *given)
        happened.append("decoder")

    def noted(self: VisionEncoder, *given: Any) -> Any:
        happened.append("picture")
        return encode(self, *given)

    monkeypatch.setattr(Decoder, "__init__", slowly)
    monkeypatch.setattr(VisionEncoder, "encode", noted)
    return happened


def test_the_first_picture_is_encoded_while_the_decoder_opens(order: list[str]) -> None:
    """Guards the overlap: encoded once, before the decoder is there; not at all if the disk seems to know it."""
    with load(room=Room(kv_disk=2**30), wait=False) as vlm:
        first = vlm.ask(PICTURE, QUESTION, OPTIONS)
    assert order == ["picture", "decoder"]
    order.clear()
    with load(room=Room(kv_disk=2**30), wait=False) as vlm:
        again = vlm.ask(PICTURE, QUESTION, OPTIONS)
    assert order == ["decoder"]
    assert again.text == first.text == "6"
    assert again.usage.cached_tokens


def test_a_hint_that_is_wrong_costs_time_alone(order: list[str], tmp_path: Path) -> None:
    """Guards a prefix that is stored and cannot be used (another model's, a damaged one): the picture is encoded."""
    with load(room=Room(kv_disk=2**30)) as vlm:
        first = vlm.ask(PICTURE, QUESTION, OPTIONS)
    (stored,) = (tmp_path / "vlrun" / "prefixes").glob("*.kv")
    stored.write_bytes(b"x" * 1000)
    order.clear()
    with load(room=Room(kv_disk=2**30), wait=False) as vlm:
        assert vlm.ask(PICTURE, QUESTION, OPTIONS).text == first.text
    assert order == ["decoder", "picture"]


def test_two_at_once_share_what_was_begun(order: list[str]) -> None:
    """Guards two threads that ask about one picture while the model is loading."""
    answers: list[str] = []
    with load(wait=False) as vlm:
        threads = [
            threading.Thread(target=lambda: answers.append(vlm.ask(PICTURE, QUESTION, OPTIONS).text)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["6", "6"]
    assert order == ["picture", "decoder"]


def test_what_is_wrong_comes_with_the_first_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards ``wait=False``: errors of the device, the room and either half arrive as themselves, and close ends."""
    with load(hints=Hints(device="GPU"), wait=False) as vlm, pytest.raises(DeviceError, match="no device 'GPU'"):
        vlm.ask(PICTURE, QUESTION)
    with load(room=Room(context=10**6), wait=False) as vlm, pytest.raises(OptionError, match="at most"):
        vlm.ask(PICTURE, QUESTION)

    def damaged(*_: object) -> None:
        raise DamagedModel("the vision encoder is damaged")

    monkeypatch.setattr(VisionEncoder, "__init__", damaged)
    with load(wait=False) as vlm:
        assert vlm.ask([], "Hi", OPTIONS).usage.completion_tokens  # a text needs no eyes
        with pytest.raises(DamagedModel, match="vision encoder"):
            vlm.ask(PICTURE, QUESTION)
    with pytest.raises(DamagedModel, match="vision encoder"):
        load()


def test_an_encoder_that_fails_is_told_to_the_one_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards an encoding that fails ahead of the question: the answer fails, the model lives."""
    encode, failures = VisionEncoder.encode, [RuntimeError("out of memory")]

    def fails_once(self: VisionEncoder, *given: Any) -> Any:
        if failures:
            raise failures.pop()
        return encode(self, *given)

    monkeypatch.setattr(VisionEncoder, "encode", fails_once)
    with load(wait=False) as vlm:
        with pytest.raises(DeviceError, match="out of memory"):
            vlm.ask(PICTURE, QUESTION, OPTIONS)
        assert vlm.ask(PICTURE, QUESTION, OPTIONS).text == "6"


def test_closing_stops_what_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a picture that nobody wants any more: close does not wait for its encoding, and leaves no thread."""
    given_up = threading.Event()

    def for_ever(_: VisionEncoder, patches: object, stopped: Callable[[], bool]) -> np.ndarray:
        while not stopped():
            time.sleep(0.01)
        given_up.set()
        raise Abandoned

    monkeypatch.setattr(VisionEncoder, "encode", for_ever)
    before = set(threading.enumerate())
    vlm = load(wait=False)
    chunks = vlm.stream(PICTURE, QUESTION)
    vlm.close()
    assert given_up.wait(10)
    assert not [thread for thread in set(threading.enumerate()) - before if "open" not in thread.name]
    with pytest.raises(EngineClosed):
        list(chunks)
