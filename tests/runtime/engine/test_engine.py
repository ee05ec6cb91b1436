"""The engine with a decoder that betrays every mix-up: many requests at once, in any order, with any interruption."""

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

WORDS = st.one_of(st.integers(0, 5), st.sampled_from([(b"red", 9), (b"blue", 9), (b"dot", 3)]))
PROMPTS = st.lists(WORDS, min_size=1, max_size=6)
ASKED = st.builds(make_prompt, PROMPTS, st.integers(1, 20))
LIMITS = st.builds(
    SchedulerConfig,
    max_sequences=st.integers(1, 5),
    prefill_tokens=st.integers(1, 40),
    mixed_prefill_tokens=st.integers(1, 20),
    guessed_tokens=st.integers(0, 9),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(ASKED, st.integers(0, 20) | st.none(), st.booleans()), min_size=1, max_size=9),
    LIMITS,
    st.integers(20, 60),
)
def test_everyone_gets_the_tokens_he_gets_alone(
    plans: list[tuple[Prompt, int | None, bool]], limits: SchedulerConfig, blocks: int
) -> None:
    """Guards everything at once: sharing, eviction, chunks, batching, guesses, readers who leave after some tokens, and
    what those who watch are told of the tokens that they read.

    The second round meets a full cache.
    """
    decoder, encoder = FakeDecoder(blocks), FakeEncoder()
    with running_engine(decoder, encoder, limits) as engine:
        for _ in range(2):
            streams = [engine.submit(make_request(asked, record_attention=watch)) for asked, _, watch in plans]
            for stream, (asked, leave, watch) in zip(streams, plans, strict=True):
                got: list[int] = []
                if leave != 0:
                    for token in stream:
                        got.append(token)
                        if len(got) == leave:
                            break
                stream.close()
                assert got == expected_tokens(asked)[:leave]
                if stream.finish_reason:
                    assert stream.finish_reason == ("stop" if got[-1] == EOS else "length")
                watched = stream.attention
                assert (watched is not None) == (watch and bool(got))
                if watched:
                    expected = expected_attention(asked, got)
                    assert np.array_equal(watched.queries, expected.queries)
                    assert np.array_equal(watched.keys, expected.keys)


IMAGE = make_prompt([1, 2, (b"red", 30), 3, 4], 12)


def test_a_second_question_costs_its_own_tokens() -> None:
    """Guards the prefix cache: neither vision nor the shared blocks run again."""
    decoder, encoder = FakeDecoder(100), FakeEncoder()
    other = make_prompt([1, 2, (b"red", 30), 5, 5, 5], 12)
    with running_engine(decoder, encoder) as engine:
        assert list(engine.submit(make_request(IMAGE))) == expected_tokens(IMAGE)
        ran = len(decoder.calls)
        stream = engine.submit(make_request(other))
        assert list(stream) == expected_tokens(other)
        assert stream.metrics.cached_tokens == 32
        assert len(decoder.calls[ran][0].ids) == len(other.ids) - 32
    assert encoder.encoded == [b"red"]


def test_images_that_share_ids_never_share_an_answer() -> None:
    """Guards the field's recurring bug: a cache keyed by token ids gives one image the answer of another."""
    decoder, encoder = FakeDecoder(100), FakeEncoder()
    other = replace(IMAGE, images=((2, 30, b"blue"),))
    assert expected_tokens(IMAGE) != expected_tokens(other)
    with running_engine(decoder, encoder) as engine:
        for asked in (IMAGE, other, IMAGE):
            stream = engine.submit(make_request(asked))
            assert list(stream) == expected_tokens(asked)
    assert encoder.encoded == [b"red", b"blue"]


def test_models_never_share_a_block() -> None:
    """Guards the root of the chain: the same prompt has other names with another model or other hints."""
    from vlrun.kv_cache.block_hash import block_hashes

    ids = list(range(12))
    names = [list(block_hashes(root, ids, [], 4)) for root in (b"one", b"two")]
    assert len(names[0]) == 3
    assert not set(names[0]) & set(names[1])


def test_the_same_question_at_once_is_computed_once() -> None:
    """Guards votes and impatient clicks: those that begin alike wait for the first one's blocks, others pass."""
    decoder, encoder = FakeDecoder(200), FakeEncoder()
    encoder.slow = 0.05
    other = make_prompt([9, 9, 9], 3)
    with running_engine(decoder, encoder, SchedulerConfig(prefill_tokens=8)) as engine:
        streams = [engine.submit(make_request(IMAGE)) for _ in range(4)]
        quick = engine.submit(make_request(other))
        assert list(quick) == expected_tokens(other)
        assert all(stream.metrics.first_token is None for stream in streams), "the quick one waited for the image"
        assert [list(stream) for stream in streams] == [expected_tokens(IMAGE)] * 4
        assert [stream.metrics.cached_tokens for stream in streams] == [0, 32, 32, 32]
    assert encoder.encoded == [b"red"]


def test_a_long_prompt_does_not_freeze_a_running_answer() -> None:
    """Guards chunked prefill: beside an answer a prompt runs in small pieces, and the answer has a token in each."""
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


def test_first_come_first_served_when_room_is_short() -> None:
    """Guards against starvation: one that needs much is not overtaken for ever by those that need little."""
    decoder, encoder = FakeDecoder(20), FakeEncoder()
    decoder.slow = 0.002
    small, large = make_prompt([1, 2, 3], 20), make_prompt([4] * 40, 20)
    with running_engine(decoder, encoder) as engine:
        streams = [engine.submit(make_request(asked)) for asked in (small, small, large, small, small)]
        for stream, asked in zip(streams, (small, small, large, small, small), strict=True):
            assert list(stream) == expected_tokens(asked)
        begun = [stream.metrics.admitted or 0 for stream in streams]
        assert begun == sorted(begun)


def test_what_never_fits_is_refused() -> None:
    """Guards against a request that waits for ever."""
    refusal = pytest.raises(ContextLengthExceeded, match="may take 21 tokens, but the KV cache holds 20")
    with running_engine(FakeDecoder(5)) as engine, refusal:
        engine.submit(make_request(make_prompt([1], 20)))


def test_a_reader_who_leaves_during_vision_or_prefill() -> None:
    """Guards the slot: vision and prefill stop within a moment, not at their end."""
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


def test_faults_reach_those_whom_they_concern() -> None:
    """Guards readers against waiting for ever, and the engine against one bad request."""
    decoder, encoder = FakeDecoder(100), FakeEncoder()
    text = make_prompt([1, 2, 3], 5)
    with running_engine(decoder, encoder) as engine:
        encoder.error = RuntimeError("out of memory")
        with pytest.raises(DeviceError, match="the device failed: out of memory"):
            list(engine.submit(make_request(IMAGE)))
        decoder.error = RuntimeError("no more")
        with pytest.raises(DeviceError, match="the device failed: no more"):
            list(engine.submit(make_request(text)))
        decoder.error = encoder.error = None

        class Picky(GreedySampler):
            def sample(self, logits: FloatArray) -> int:
                raise OptionError("never")

        bad = engine.submit(replace(make_request(text), sampler=Picky()))
        good = engine.submit(make_request(IMAGE))
        with pytest.raises(OptionError, match="never"):
            list(bad)
        assert list(good) == expected_tokens(IMAGE)


def test_closing_ends_everything() -> None:
    """Guards shutdown: readers hear of it, threads are gone, later requests are refused."""
    before = threading.active_count()
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
    assert threading.active_count() == before


def test_features_outlive_evicted_blocks() -> None:
    """Guards against encoding an image again only because its blocks had to go."""
    decoder, encoder = FakeDecoder(14), FakeEncoder()
    crowd = [make_prompt([n] * 30, 3) for n in range(10, 14)]
    with running_engine(decoder, encoder) as engine:
        for asked in (IMAGE, *crowd, IMAGE):
            stream = engine.submit(make_request(asked))
            assert list(stream) == expected_tokens(asked)
        assert stream.metrics.cached_tokens == 0
    assert encoder.encoded == [b"red"]


def test_attention_that_cannot_be_recorded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards heat maps where keys cannot be read: refused in the caller's thread, and others are answered."""

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


def test_metrics_count_what_was_read() -> None:
    """Guards the usage of an answer: the engine runs ahead of its reader, but only tokens that were read count."""
    asked = make_prompt([1, 2, 3], 40)
    with running_engine(FakeDecoder(100)) as engine:
        stream = engine.submit(replace(make_request(asked), eos=frozenset()))
        tokens = iter(stream)
        for _ in range(3):
            next(tokens)
        wait_for(lambda: not engine.state().running)
        stream.close()
    assert stream.metrics.tokens == 3
    assert 1 <= stream.metrics.forward_passes <= 3


def test_stop_may_be_called_in_the_engines_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a deadlock when the garbage collector finalizes a model in one of the model's threads."""
    before = threading.active_count()
    decoder = FakeDecoder(10)
    engine = Engine(decoder, EncoderQueue(FakeEncoder().encode), ROOT)

    def stop(*_: object) -> list[StepOutput]:
        engine.stop()
        raise InferenceCancelled

    monkeypatch.setattr(decoder, "forward", stop)
    engine.submit(make_request(make_prompt([1], 5)))
    wait_for(lambda: threading.active_count() == before)
    engine.close()


@pytest.mark.slow
def test_a_thousand_requests_leave_nothing() -> None:
    """Guards a service that runs for months: objects and threads do not pile up."""
    decoder, encoder = FakeDecoder(60), FakeEncoder()
    rng = np.random.default_rng(0)

    def some(count: int) -> None:
        streams = []
        for _ in range(count):
            first, last, key = (int(n) for n in rng.integers(0, 6, 3))
            words: list[int | tuple[bytes, int]] = [first, (bytes([key]), 9), last]
            streams.append(engine.submit(make_request(make_prompt(words, 4))))
            if len(streams) == 8:
                for number, stream in enumerate(streams):
                    if number % 3:
                        list(stream)
                    stream.close()
                streams.clear()

    with running_engine(decoder, encoder) as engine:
        some(200)
        decoder.calls.clear()
        gc.collect()
        objects, threads, descriptors = len(gc.get_objects()), threading.active_count(), open_descriptors()
        some(800)
        decoder.calls.clear()
        wait_for(lambda: engine.pool.free == 60)
        gc.collect()
        assert threading.active_count() == threads
        assert open_descriptors() == descriptors
        assert len(gc.get_objects()) < objects + 500


class ForcingSampler(GreedySampler):
    """Announces forced tokens, rightly or wrongly."""

    def __init__(self, forced: Sequence[Sequence[int]]) -> None:
        self._forced = list(forced)

    def forced_tokens(self) -> Sequence[int]:
        return self._forced.pop(0) if self._forced else ()


def test_tokens_that_must_come_are_run_together() -> None:
    """Guards forms: what a grammar foretells costs one pass, and what it foretells wrongly changes nothing."""
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
