"""The engine with a fake decoder that exposes any mix-up: concurrent requests, interruptions, faults."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.engine.fake_decoder import FakeDecoder
from tests.runtime.engine.requests import (
    EOS,
    ROOT,
    FakeEncoder,
    GreedySampler,
    Prompt,
    expected_attention,
    expected_tokens,
    make_prompt,
    make_request,
    running_engine,
    wait_for,
)
from vlrun.engine.backend import StepOutput
from vlrun.engine.engine import Engine
from vlrun.engine.scheduler import SchedulerConfig
from vlrun.errors import ContextLengthExceeded, DeviceError, EngineClosed, InferenceCancelled, OptionError
from vlrun.types.arrays import FloatArray
from vlrun.vision.encoder_queue import EncoderQueue

ITEMS = st.one_of(st.integers(0, 5), st.sampled_from([(b"red", 9), (b"blue", 9), (b"dot", 3)]))
ITEM_LISTS = st.lists(ITEMS, min_size=1, max_size=6)
PROMPTS = st.builds(make_prompt, ITEM_LISTS, st.integers(1, 20))
CONFIGS = st.builds(
    SchedulerConfig,
    max_sequences=st.integers(1, 5),
    prefill_tokens=st.integers(1, 40),
    mixed_prefill_tokens=st.integers(1, 20),
    guessed_tokens=st.integers(0, 9),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(PROMPTS, st.integers(0, 20) | st.none(), st.booleans()), min_size=1, max_size=9),
    CONFIGS,
    st.integers(20, 60),
)
def test_any_mix_gives_the_tokens_and_attention_of_single_requests(
    plans: list[tuple[Prompt, int | None, bool]], config: SchedulerConfig, blocks: int
) -> None:
    """Covers sharing, eviction, chunks, batching, guesses and closed streams. The second round starts with a full
    cache.
    """
    decoder, encoder = FakeDecoder(blocks), FakeEncoder()
    with running_engine(decoder, encoder, config) as engine:
        for _ in range(2):
            streams = [engine.submit(make_request(prompt, record_attention=record)) for prompt, _, record in plans]
            for stream, (prompt, read, record) in zip(streams, plans, strict=True):
                got: list[int] = []
                if read != 0:
                    for token in stream:
                        got.append(token)
                        if len(got) == read:
                            break
                stream.close()
                assert got == expected_tokens(prompt)[:read]
                if stream.finish_reason:
                    assert stream.finish_reason == ("stop" if got[-1] == EOS else "length")
                attention = stream.attention
                assert (attention is not None) == (record and bool(got))
                if attention:
                    expected = expected_attention(prompt, got)
                    assert np.array_equal(attention.queries, expected.queries)
                    assert np.array_equal(attention.keys, expected.keys)


IMAGE = make_prompt([1, 2, (b"red", 30), 3, 4], 12)


def test_a_second_question_prefills_only_its_own_tokens() -> None:
    """Neither the vision encoder nor the shared blocks run again."""
    decoder, encoder = FakeDecoder(100), FakeEncoder()
    other = make_prompt([1, 2, (b"red", 30), 5, 5, 5], 12)
    with running_engine(decoder, encoder) as engine:
        assert list(engine.submit(make_request(IMAGE))) == expected_tokens(IMAGE)
        calls = len(decoder.calls)
        stream = engine.submit(make_request(other))
        assert list(stream) == expected_tokens(other)
        assert stream.metrics.cached_tokens == 32
        assert len(decoder.calls[calls][0].ids) == len(other.ids) - 32
    assert encoder.encoded == [b"red"]


def test_different_images_with_equal_ids_share_no_blocks() -> None:
    """Guards against a cache keyed by token ids alone, which answers about the wrong image."""
    decoder, encoder = FakeDecoder(100), FakeEncoder()
    other = replace(IMAGE, images=((2, 30, b"blue"),))
    assert expected_tokens(IMAGE) != expected_tokens(other)
    with running_engine(decoder, encoder) as engine:
        for prompt in (IMAGE, other, IMAGE):
            stream = engine.submit(make_request(prompt))
            assert list(stream) == expected_tokens(prompt)
    assert encoder.encoded == [b"red", b"blue"]


def test_a_request_larger_than_the_cache_is_refused() -> None:
    """Guards against a request that waits forever."""
    refusal = pytest.raises(ContextLengthExceeded, match="may take 21 tokens, but the KV cache holds 20")
    with running_engine(FakeDecoder(5)) as engine, refusal:
        engine.submit(make_request(make_prompt([1], 20)))


def test_closing_a_stream_stops_vision_and_prefill() -> None:
    decoder, encoder = FakeDecoder(100), FakeEncoder()
    encoder.slow = 30
    with running_engine(decoder, encoder) as engine:
        stream = engine.submit(make_request(IMAGE))
        wait_for(lambda: bool(engine.state().encoding))
        stream.close()
        wait_for(lambda: engine.pool.free == 100 and not engine.state().encoding)
        encoder.slow, decoder.slow = 0, 30
        stream = engine.submit(make_request(IMAGE))
        wait_for(lambda: bool(decoder.calls))
        stream.close()
        wait_for(lambda: engine.pool.free == 100)
        decoder.slow = 0
        assert list(engine.submit(make_request(IMAGE))) == expected_tokens(IMAGE)


class PanicException(BaseException):
    """As PyO3's, which cannot be imported."""


def test_a_fault_fails_only_the_requests_it_affects() -> None:
    decoder, encoder = FakeDecoder(100), FakeEncoder()
    text = make_prompt([1, 2, 3], 5)
    with running_engine(decoder, encoder) as engine:
        encoder.error = RuntimeError("out of memory")
        with pytest.raises(DeviceError, match="the device failed: out of memory"):
            list(engine.submit(make_request(IMAGE)))
        decoder.error = RuntimeError("no more")
        with pytest.raises(DeviceError, match="the device failed: no more"):
            list(engine.submit(make_request(text)))
        for failing in (encoder, decoder):  # a panic of a Rust library ended the engine
            decoder.error = encoder.error = None
            failing.error = PanicException("index out of bounds")  # type: ignore[assignment]
            with pytest.raises(DeviceError, match="the device failed: index out of bounds"):
                list(engine.submit(make_request(IMAGE)))
        decoder.error = encoder.error = None

        class FailingSampler(GreedySampler):
            def sample(self, logits: FloatArray) -> int:
                raise OptionError("never")

        bad = engine.submit(replace(make_request(text), sampler=FailingSampler()))
        good = engine.submit(make_request(IMAGE))
        with pytest.raises(OptionError, match="never"):
            list(bad)
        assert list(good) == expected_tokens(IMAGE)


def test_closing_ends_streams_and_threads() -> None:
    before = set(threading.enumerate())
    decoder = FakeDecoder(100)
    decoder.slow = 30
    engine = Engine(decoder, EncoderQueue(FakeEncoder().encode), ROOT)
    stream = engine.submit(make_request(make_prompt([1], 5)))
    wait_for(lambda: bool(decoder.calls))
    engine.close()
    with pytest.raises(EngineClosed):
        list(stream)
    with pytest.raises(EngineClosed):
        engine.submit(make_request(make_prompt([1], 5)))
    assert not set(threading.enumerate()) - before


def test_features_outlive_evicted_blocks() -> None:
    """Guards against encoding an image again because its blocks were evicted."""
    decoder, encoder = FakeDecoder(14), FakeEncoder()
    others = [make_prompt([n] * 30, 3) for n in range(10, 14)]
    with running_engine(decoder, encoder) as engine:
        for prompt in (IMAGE, *others, IMAGE):
            stream = engine.submit(make_request(prompt))
            assert list(stream) == expected_tokens(prompt)
        assert stream.metrics.cached_tokens == 0
    assert encoder.encoded == [b"red"]


def test_attention_that_cannot_be_recorded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused in the caller's thread; other requests are answered."""

    def refuse() -> None:
        raise OptionError("heat maps need another cache")

    decoder, encoder = FakeDecoder(100), FakeEncoder()
    monkeypatch.setattr(decoder, "check", refuse)
    monkeypatch.setattr(decoder, "read_keys", None)
    with running_engine(decoder, encoder) as engine:
        with pytest.raises(OptionError, match="heat maps need another cache"):
            engine.submit(make_request(IMAGE, record_attention=True))
        stream = engine.submit(make_request(IMAGE))
        assert list(stream) == expected_tokens(IMAGE)
    assert stream.attention is None
    assert not any(step.record_queries for steps in decoder.calls for step in steps)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_metrics_count_only_tokens_that_were_read() -> None:
    """The engine runs ahead of its reader."""
    prompt = make_prompt([1, 2, 3], 40)
    with running_engine(FakeDecoder(100)) as engine:
        stream = engine.submit(replace(make_request(prompt), eos=frozenset()))
        tokens = iter(stream)
        for _ in range(3):
            next(tokens)
        wait_for(lambda: not engine.state().running)
        stream.close()
    assert stream.metrics.tokens == 3
    assert 1 <= stream.metrics.forward_passes <= 3


def test_stop_may_be_called_in_the_engines_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a deadlock when the garbage collector finalizes a model in one of the model's threads."""
    before = set(threading.enumerate())
    decoder = FakeDecoder(10)
    engine = Engine(decoder, EncoderQueue(FakeEncoder().encode), ROOT)

    def stop(*_: object) -> list[StepOutput]:
        engine.stop()
        raise InferenceCancelled

    monkeypatch.setattr(decoder, "forward", stop)
    engine.submit(make_request(make_prompt([1], 5)))
    wait_for(lambda: not set(threading.enumerate()) - before)
    engine.close()


@pytest.mark.slow
def test_a_thousand_requests_leave_no_objects_threads_or_files() -> None:
    """Guards against leaks in a service that runs for months."""
    decoder, encoder = FakeDecoder(60), FakeEncoder()
    rng = np.random.default_rng(0)

    def run_requests(count: int) -> None:
        streams = []
        for _ in range(count):
            first, last, key = (int(n) for n in rng.integers(0, 6, 3))
            items: list[int | tuple[bytes, int]] = [first, (bytes([key]), 9), last]
            streams.append(engine.submit(make_request(make_prompt(items, 4))))
            if len(streams) == 8:
                for number, stream in enumerate(streams):
                    if number % 3:
                        list(stream)
                    stream.close()
                streams.clear()

    with running_engine(decoder, encoder) as engine:
        run_requests(200)
        decoder.calls.clear()
        gc.collect()
        objects, threads, descriptors = len(gc.get_objects()), set(threading.enumerate()), open_descriptors()
        run_requests(800)
        decoder.calls.clear()
        wait_for(lambda: engine.pool.free == 60)
        gc.collect()
        assert not set(threading.enumerate()) - threads
        assert open_descriptors() <= descriptors  # those of earlier tests may be collected meanwhile
        assert len(gc.get_objects()) < objects + 500


class ForcingSampler(GreedySampler):
    """Announces the given tokens as forced, rightly or wrongly."""

    def __init__(self, forced: Sequence[Sequence[int]]) -> None:
        self._forced = list(forced)

    def forced_tokens(self) -> Sequence[int]:
        return self._forced.pop(0) if self._forced else ()


def test_forced_tokens_run_in_one_step() -> None:
    """Wrongly announced tokens cost time but do not change the answer."""
    tokens = expected_tokens(IMAGE)
    with running_engine(FakeDecoder(60)) as engine:
        right = engine.submit(replace(make_request(IMAGE), sampler=ForcingSampler([tokens[1:6]])))
        assert list(right) == tokens
        wrong = engine.submit(replace(make_request(IMAGE), sampler=ForcingSampler([[1, 1], [], [2, 2, 2]])))
        assert list(wrong) == tokens
        plain = engine.submit(replace(make_request(IMAGE), sampler=ForcingSampler([tokens[1:6]]), prompt_lookup=False))
        assert list(plain) == tokens
    assert right.metrics.forward_passes <= len(tokens) - 4
    assert plain.metrics.forward_passes == len(tokens)
