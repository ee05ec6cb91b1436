"""The watchdog: slow steps, hanging devices and a closed engine."""

from __future__ import annotations

import time

import pytest

from tests.runtime.engine.fake_decoder import FakeDecoder
from tests.runtime.engine.requests import FakeEncoder, make_prompt, make_request, running_engine, wait_for
from vlrun.engine import watchdog as watchdogs
from vlrun.engine.engine import Engine
from vlrun.engine.watchdog import Watchdog
from vlrun.vision.encoder_queue import EncoderQueue


def shorten_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdogs, "WINDOW_SECONDS", 0.2)


def test_a_hanging_decoder_is_reported_as_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that neither returns nor computes hangs; a slow device still uses CPU time."""
    shorten_window(monkeypatch)
    monkeypatch.setattr(watchdogs, "backend_cpu_seconds", lambda: 5.0)
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


def test_a_computing_step_counts_as_progress_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against restarting a throttled machine, and against an endless loop that looks busy."""
    shorten_window(monkeypatch)
    monkeypatch.setattr(watchdogs, "backend_cpu_seconds", time.monotonic)
    monkeypatch.setattr(watchdogs, "MAX_STEP_SECONDS", 1.0)
    watchdog = Watchdog()
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        assert watchdog.progressing()
        time.sleep(0.05)
    wait_for(lambda: not watchdog.progressing())
    watchdog.reset()
    assert watchdog.progressing()


def test_cpu_time_of_python_threads_is_not_backend_time() -> None:
    """Guards against a server busy with HTTP that hides a hanging device."""
    before, until = watchdogs.backend_cpu_seconds(), time.process_time() + 0.5
    while time.process_time() < until:
        pass
    assert watchdogs.backend_cpu_seconds() - before < 0.1


def test_a_closed_engine_is_not_progressing() -> None:
    engine = Engine(FakeDecoder(10), EncoderQueue(FakeEncoder().encode), b"model")
    assert engine.state().progressing
    engine.close()
    assert not engine.state().progressing
