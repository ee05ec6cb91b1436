"""What a service asks of an engine: to end from another thread, to say how far it is, and whether it gets on."""

from __future__ import annotations

import threading
import time

import pytest

from tests.runtime.engine.fake_decoder import FakeDecoder
from tests.runtime.engine.requests import Eye, alone, engine_of, prompt, read, request, wait_for
from vlrun.engine import watchdog as pulse
from vlrun.engine.engine import Engine
from vlrun.engine.request import Cancellation
from vlrun.engine.scheduler import SchedulerConfig
from vlrun.engine.watchdog import Watchdog
from vlrun.errors import AnswerCancelled
from vlrun.types.answer import Progress

IMAGE = prompt([1, 2, (b"red", 30), (b"blue", 9), 3, 4], 12)


@pytest.mark.parametrize("slow", ["vision", "prefill"])
def test_a_reader_who_waits_is_woken_by_a_cancellation(slow: str) -> None:
    """Guards a server's threads: one that waits for a token must not wait for ever when its client has left."""
    decoder, eye = FakeDecoder(100), Eye()
    eye.slow, decoder.slow = (30, 0) if slow == "vision" else (0, 30)
    cancellation = Cancellation()
    ended = threading.Event()

    def reads() -> None:
        stream = engine.submit(request(IMAGE, eye))
        cancellation.watch(stream.close)
        with pytest.raises(AnswerCancelled):
            read(stream)
        ended.set()

    with engine_of(decoder) as engine:
        reader = threading.Thread(target=reads)
        reader.start()
        wait_for(lambda: bool(engine._looks) if slow == "vision" else bool(decoder.calls))
        cancellation.cancel()
        assert ended.wait(5)
        wait_for(lambda: engine.pool.free == 100)
        late = engine.submit(request(IMAGE, eye))
        cancellation.watch(late.close)
        with pytest.raises(AnswerCancelled):
            read(late)
    reader.join()


def test_progress_comes_before_the_first_token() -> None:
    """Guards progress: images as they are seen, the prompt as it is prefilled, each to its end."""
    with engine_of(FakeDecoder(100), SchedulerConfig(prefill=16)) as engine:
        items = list(engine.submit(request(IMAGE, Eye())).items())
    told = [item for item in items if isinstance(item, Progress)]
    assert items[: len(told)] == told
    assert [item.done for item in told if item.phase == "vision"] == [0, 30, 39]
    assert [item.done for item in told if item.phase == "prefill"] == [16, 32]
    assert {(item.phase, item.total) for item in told} == {("vision", 39), ("prefill", 43)}
    assert [item for item in items if not isinstance(item, Progress)] == alone(IMAGE)


def _hang_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "WINDOW", 0.2)


def test_a_decoder_that_hangs_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards /health/ready and the watchdog: a device that neither returns nor computes is told from a slow one."""
    _hang_at_once(monkeypatch)
    monkeypatch.setattr(pulse, "_device_seconds", lambda: 5.0)
    decoder = FakeDecoder(100)
    with engine_of(decoder) as engine:
        assert engine.state().progressing
        decoder.slow = 30
        stream = engine.submit(request(prompt([1], 5), Eye()))
        assert engine.state().progressing
        wait_for(lambda: not engine.state().progressing)
        assert engine.state().still >= 0.2
        stream.close()
        wait_for(lambda: engine.state().progressing)
        assert engine.state().still == 0


def test_a_slow_step_that_computes_is_progress_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a throttled box against its watchdog, and the watchdog against an endless loop."""
    _hang_at_once(monkeypatch)
    monkeypatch.setattr(pulse, "_device_seconds", time.monotonic)
    monkeypatch.setattr(pulse, "LONGEST", 1.0)
    beating = Watchdog()
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        assert beating.progressing()
        time.sleep(0.05)
    wait_for(lambda: not beating.progressing())
    beating.beat()
    assert beating.progressing()


def test_time_of_pythons_own_threads_is_not_the_devices() -> None:
    """Guards against a server busy with HTTP that hides a device which hangs."""
    before, until = pulse._device_seconds(), time.process_time() + 0.5
    while time.process_time() < until:
        pass
    assert pulse._device_seconds() - before < 0.1


def test_a_dead_engine_is_no_progress() -> None:
    """Guards against a ready service whose engine has ended."""
    engine = Engine(FakeDecoder(10), b"model")
    assert engine.state().progressing
    engine.close()
    assert not engine.state().progressing
