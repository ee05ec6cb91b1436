"""What a service asks of an engine: to end from another thread, to say how far it is, and whether it gets on."""

from __future__ import annotations

import threading
import time

import pytest

from tests.runtime.engine.fake_decoder import FakeDecoder
from tests.runtime.engine.requests import (
    FakeEncoder,
    expected_tokens,
    make_prompt,
    make_request,
    running_engine,
    wait_for,
)
from vlrun.engine import watchdog as pulse
from vlrun.engine.engine import Engine
from vlrun.engine.request import Cancellation
from vlrun.engine.scheduler import SchedulerConfig
from vlrun.engine.watchdog import Watchdog
from vlrun.errors import AnswerCancelled
from vlrun.types.answer import Progress
from vlrun.vision.encoder_queue import EncoderQueue

IMAGE = make_prompt([1, 2, (b"red", 30), (b"blue", 9), 3, 4], 12)


@pytest.mark.parametrize("slow", ["vision", "prefill"])
def test_a_reader_who_waits_is_woken_by_a_cancellation(slow: str) -> None:
    """Guards a server's threads: one that waits for a token must not wait for ever when its client has left."""
    decoder, encoder = FakeDecoder(100), FakeEncoder()
    encoder.slow, decoder.slow = (30, 0) if slow == "vision" else (0, 30)
    cancellation = Cancellation()
    ended = threading.Event()

    def reads() -> None:
        stream = engine.submit(make_request(IMAGE))
        cancellation.add_done_callback(lambda _: stream.close())
        with pytest.raises(AnswerCancelled):
            list(stream)
        ended.set()

    with running_engine(decoder, encoder) as engine:
        reader = threading.Thread(target=reads)
        reader.start()
        wait_for(lambda: bool(engine.state().encoding) if slow == "vision" else bool(decoder.calls))
        cancellation.cancel()
        assert ended.wait(5)
        wait_for(lambda: engine.pool.free == 100)
        late = engine.submit(make_request(IMAGE))
        cancellation.add_done_callback(lambda _: late.close())
        with pytest.raises(AnswerCancelled):
            list(late)
    reader.join()


def test_progress_comes_before_the_first_token() -> None:
    """Guards progress: images as they are seen, the prompt as it is prefilled, each to its end."""
    with running_engine(FakeDecoder(100), config=SchedulerConfig(prefill_tokens=16)) as engine:
        items = list(engine.submit(make_request(IMAGE)).items())
    told = [item for item in items if isinstance(item, Progress)]
    assert items[: len(told)] == told
    assert [item.done for item in told if item.phase == "vision"] == [0, 30, 39]
    assert [item.done for item in told if item.phase == "prefill"] == [16, 32]
    assert {(item.phase, item.total) for item in told} == {("vision", 39), ("prefill", 43)}
    assert [item for item in items if not isinstance(item, Progress)] == expected_tokens(IMAGE)


def _hang_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "WINDOW_SECONDS", 0.2)


def test_a_decoder_that_hangs_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards /health/ready and the watchdog: a device that neither returns nor computes is told from a slow one."""
    _hang_at_once(monkeypatch)
    monkeypatch.setattr(pulse, "backend_cpu_seconds", lambda: 5.0)
    decoder = FakeDecoder(100)
    with running_engine(decoder) as engine:
        assert engine.state().progressing
        decoder.slow = 30
        stream = engine.submit(make_request(make_prompt([1], 5)))
        assert engine.state().progressing
        wait_for(lambda: not engine.state().progressing)
        assert engine.state().stalled_seconds >= 0.2
        stream.close()
        wait_for(lambda: engine.state().progressing)
        assert engine.state().stalled_seconds == 0


def test_a_slow_step_that_computes_is_progress_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a throttled box against its watchdog, and the watchdog against an endless loop."""
    _hang_at_once(monkeypatch)
    monkeypatch.setattr(pulse, "backend_cpu_seconds", time.monotonic)
    monkeypatch.setattr(pulse, "MAX_STEP_SECONDS", 1.0)
    beating = Watchdog()
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        assert beating.progressing()
        time.sleep(0.05)
    wait_for(lambda: not beating.progressing())
    beating.reset()
    assert beating.progressing()


def test_time_of_pythons_own_threads_is_not_the_devices() -> None:
    """Guards against a server busy with HTTP that hides a device which hangs."""
    before, until = pulse.backend_cpu_seconds(), time.process_time() + 0.5
    while time.process_time() < until:
        pass
    assert pulse.backend_cpu_seconds() - before < 0.1


def test_a_dead_engine_is_no_progress() -> None:
    """Guards against a ready service whose engine has ended."""
    engine = Engine(FakeDecoder(10), EncoderQueue(FakeEncoder().encode), b"model")
    assert engine.state().progressing
    engine.close()
    assert not engine.state().progressing
