"""Token streams: progress events, and cancellation from another thread."""

from __future__ import annotations

import threading

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
from vlrun.engine.request import Cancellation
from vlrun.engine.scheduler import SchedulerConfig
from vlrun.errors import AnswerCancelled
from vlrun.types.answer import Progress

IMAGE = make_prompt([1, 2, (b"red", 30), (b"blue", 9), 3, 4], 12)


@pytest.mark.parametrize("slow", ["vision", "prefill"])
def test_cancelling_wakes_a_waiting_reader(slow: str) -> None:
    """Guards a server's threads: one that waits for a token must not block forever after its client disconnected."""
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


def test_progress_precedes_the_first_token() -> None:
    with running_engine(FakeDecoder(100), config=SchedulerConfig(prefill_tokens=16)) as engine:
        items = list(engine.submit(make_request(IMAGE)).items())
    progress = [item for item in items if isinstance(item, Progress)]
    assert items[: len(progress)] == progress
    assert [item.done for item in progress if item.phase == "vision"] == [0, 30, 39]
    assert [item.done for item in progress if item.phase == "prefill"] == [0, 16, 32]
    assert {(item.phase, item.total) for item in progress} == {("vision", 39), ("prefill", 43)}
    assert [item for item in items if not isinstance(item, Progress)] == expected_tokens(IMAGE)
