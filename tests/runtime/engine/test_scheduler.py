"""Scheduling: order of requests, chunked prefill beside answers, shared prefixes."""

from __future__ import annotations

from dataclasses import replace

from tests.runtime.engine.fake_decoder import FakeDecoder
from tests.runtime.engine.requests import FakeEncoder, expected_tokens, make_prompt, make_request, running_engine
from vlrun.engine.scheduler import SchedulerConfig

IMAGE = make_prompt([1, 2, (b"red", 30), 3, 4], 12)


def test_concurrent_equal_prompts_are_prefilled_once() -> None:
    """Later ones wait for the first one's blocks; other requests do not wait."""
    decoder, encoder = FakeDecoder(200), FakeEncoder()
    encoder.slow = 0.05
    other = make_prompt([9, 9, 9], 3)
    with running_engine(decoder, encoder, SchedulerConfig(prefill_tokens=8)) as engine:
        streams = [engine.submit(make_request(IMAGE)) for _ in range(4)]
        quick = engine.submit(make_request(other))
        assert list(quick) == expected_tokens(other)
        assert all(stream.metrics.first_token is None for stream in streams), "a text waited for the image"
        assert [list(stream) for stream in streams] == [expected_tokens(IMAGE)] * 4
        assert [stream.metrics.cached_tokens for stream in streams] == [0, 32, 32, 32]
    assert encoder.encoded == [b"red"]


def test_a_long_prefill_does_not_stall_a_running_answer() -> None:
    """The prompt is prefilled in small chunks, each in one step with a token of the answer."""
    decoder, encoder = FakeDecoder(200), FakeEncoder()
    long, short = make_prompt([1] * 200, 2), make_prompt([2, 3], 60)
    decoder.slow = 0.002
    with running_engine(decoder, encoder, SchedulerConfig(prefill_tokens=512, mixed_prefill_tokens=8)) as engine:
        first = engine.submit(make_request(replace(short, max_tokens=400), prompt_lookup=False))
        next(iter(first))
        second = engine.submit(make_request(long))
        assert list(second) == expected_tokens(long)
        mixed = [steps for steps in decoder.calls if any(len(step.ids) > 1 and step.past for step in steps)]
        assert len(mixed) >= 20
        assert all(sum(len(step.ids) for step in steps) <= 1 + 8 for steps in mixed)
        assert all(any(len(step.ids) == 1 for step in steps) for steps in mixed)
        first.close()


def test_requests_start_in_order_when_blocks_are_short() -> None:
    """Guards against starvation of a large request behind many small ones."""
    decoder, encoder = FakeDecoder(20), FakeEncoder()
    decoder.slow = 0.002
    small, large = make_prompt([1, 2, 3], 20), make_prompt([4] * 40, 20)
    with running_engine(decoder, encoder) as engine:
        streams = [engine.submit(make_request(prompt)) for prompt in (small, small, large, small, small)]
        for stream, prompt in zip(streams, (small, small, large, small, small), strict=True):
            assert list(stream) == expected_tokens(prompt)
        admitted = [stream.metrics.admitted or 0 for stream in streams]
        assert admitted == sorted(admitted)
