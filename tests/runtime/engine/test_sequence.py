"""Requests with many images: they are encoded and prefilled part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.engine.fake_decoder import FakeDecoder
from tests.runtime.engine.requests import (
    FakeEncoder,
    Prompt,
    expected_tokens,
    make_prompt,
    make_request,
    running_engine,
    wait_for,
)
from vlrun.engine import sequence
from vlrun.engine.backend import SequenceStep, StepOutput
from vlrun.engine.scheduler import SchedulerConfig
from vlrun.types.answer import Progress

PAIR = 9
"""Visual tokens."""


def clip(pairs: int, max_tokens: int = 12) -> Prompt:
    """A prompt as that of a video: a text before each pair of frames."""
    return make_prompt([1, *(item for pair in range(pairs) for item in (2, 3, (bytes([pair, 1]), PAIR)))], max_tokens)


class WatchedDecoder(FakeDecoder):
    """Records how many pairs were encoded and not prefilled at each pass."""

    def __init__(self, blocks: int, encoder: FakeEncoder) -> None:
        super().__init__(blocks)
        self._encoder = encoder
        self.ahead: list[int] = []

    def forward(self, steps: Sequence[SequenceStep], stopped: Callable[[], bool]) -> list[StepOutput]:
        prefilled = max(step.past for step in steps) // (PAIR + 2)
        self.ahead.append(len(self._encoder.encoded) - prefilled)
        return super().forward(steps, stopped)


@pytest.mark.parametrize("limit", [1, PAIR, 5 * PAIR])
def test_only_a_part_of_a_long_video_waits_to_be_prefilled(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Memory for features does not grow with the video. The second time, all of it is cached."""
    monkeypatch.setattr(sequence, "FEATURE_TOKENS", limit)
    encoder = FakeEncoder()
    decoder, prompt = WatchedDecoder(400, encoder), clip(40)
    with running_engine(decoder, encoder, SchedulerConfig(prefill_tokens=16)) as engine:
        stream = engine.submit(make_request(prompt))
        items = list(stream.items())
        assert [item for item in items if not isinstance(item, Progress)] == expected_tokens(prompt)
        assert max(decoder.ahead) <= max(limit // PAIR, 1) + 2
        again = engine.submit(make_request(prompt))
        assert list(again) == expected_tokens(prompt)
        assert again.metrics.cached_tokens > 40 * PAIR
    assert len(encoder.encoded) == 40
    progress = [item for item in items if isinstance(item, Progress)]
    for phase, total in (("vision", 40 * PAIR), ("prefill", len(prompt.ids))):
        done = [item.done for item in progress if item.phase == phase]
        assert done == sorted(done)
        assert {item.total for item in progress if item.phase == phase} == {total}
    assert max(item.done for item in progress if item.phase == "vision") == 40 * PAIR


@pytest.mark.slow
@given(
    st.lists(
        st.lists(st.one_of(st.integers(0, 5), st.sampled_from([(b"red", 9), (b"blue", 3), (b"dot", 1)])), max_size=9),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 20),
    st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_any_prompts_give_the_tokens_of_single_requests(
    items: list[list[int | tuple[bytes, int]]], limit: int, chunk: int
) -> None:
    """Borders of parts fall everywhere: inside blocks, beside texts, between equal images."""
    prompts = [make_prompt([1, *one], 6) for one in items]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence, "FEATURE_TOKENS", limit)
        with running_engine(FakeDecoder(60), FakeEncoder(), SchedulerConfig(prefill_tokens=chunk)) as engine:
            for _ in range(2):
                streams = [engine.submit(make_request(prompt)) for prompt in prompts]
                assert [list(stream) for stream in streams] == [expected_tokens(prompt) for prompt in prompts]
            wait_for(lambda: engine.pool.free == engine.pool.blocks)


def test_a_closed_video_frees_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl+C in the middle of it."""
    monkeypatch.setattr(sequence, "FEATURE_TOKENS", 2 * PAIR)
    encoder, decoder = FakeEncoder(), FakeDecoder(400)
    encoder.slow = 0.005
    with running_engine(decoder, encoder) as engine:
        stream = engine.submit(make_request(clip(40)))
        for item in stream.items():
            if isinstance(item, Progress) and item.phase == "prefill" and item.done:
                break
        stream.close()
        other = make_prompt([4, 5], 3)
        assert list(engine.submit(make_request(other))) == expected_tokens(other)
        assert len(encoder.encoded) < 40
