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
    Asked,
    Eye,
    Greedy,
    alone,
    engine_of,
    prompt,
    read,
    request,
    wait_for,
    watched_alone,
)
from vlrun.engine.engine import Engine
from vlrun.engine.sampler import FloatRow
from vlrun.engine.scheduler import SchedulerConfig
from vlrun.errors import ContextLengthExceeded, DeviceError, EngineClosed, OptionError

WORDS = st.one_of(st.integers(0, 5), st.sampled_from([(b"red", 9), (b"blue", 9), (b"dot", 3)]))
PROMPTS = st.lists(WORDS, min_size=1, max_size=6)
ASKED = st.builds(prompt, PROMPTS, st.integers(1, 20))
LIMITS = st.builds(
    SchedulerConfig,
    running=st.integers(1, 5),
    prefill=st.integers(1, 40),
    beside=st.integers(1, 20),
    guesses=st.integers(0, 9),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(ASKED, st.integers(0, 20) | st.none(), st.booleans()), min_size=1, max_size=9),
    LIMITS,
    st.integers(20, 60),
)
def test_everyone_gets_the_tokens_he_gets_alone(
    plans: list[tuple[Asked, int | None, bool]], limits: SchedulerConfig, blocks: int
) -> None:
    """Guards everything at once: sharing, eviction, chunks, batching, guesses, readers who leave after some tokens, and
    what those who watch are told of the tokens that they read.

    The second round meets a full cache.
    """
    decoder, eye = FakeDecoder(blocks), Eye()
    with engine_of(decoder, limits) as engine:
        for _ in range(2):
            streams = [engine.submit(request(asked, eye, watch=watch)) for asked, _, watch in plans]
            for stream, (asked, leave, watch) in zip(streams, plans, strict=True):
                got: list[int] = []
                if leave != 0:
                    for token in stream:
                        got.append(token)
                        if len(got) == leave:
                            break
                stream.close()
                assert got == alone(asked)[:leave]
                if stream.reason:
                    assert stream.reason == ("stop" if got[-1] == EOS else "length")
                watched = stream.watched
                assert (watched is not None) == (watch and bool(got))
                if watched:
                    expected = watched_alone(asked, got)
                    assert np.array_equal(watched.queries, expected.queries)
                    assert np.array_equal(watched.keys, expected.keys)


IMAGE = prompt([1, 2, (b"red", 30), 3, 4], 12)


def test_a_second_question_costs_its_own_tokens() -> None:
    """Guards the prefix cache: neither vision nor the shared blocks run again."""
    decoder, eye = FakeDecoder(100), Eye()
    other = prompt([1, 2, (b"red", 30), 5, 5, 5], 12)
    with engine_of(decoder) as engine:
        assert read(engine.submit(request(IMAGE, eye))) == alone(IMAGE)
        ran = len(decoder.calls)
        stream = engine.submit(request(other, eye))
        assert read(stream) == alone(other)
        assert stream.figures.cached == 32
        assert len(decoder.calls[ran][0].ids) == len(other.ids) - 32
    assert eye.encoded == [b"red"]


def test_images_that_share_ids_never_share_an_answer() -> None:
    """Guards the field's recurring bug: a cache keyed by token ids gives one image the answer of another."""
    decoder, eye = FakeDecoder(100), Eye()
    other = replace(IMAGE, images=((2, 30, b"blue"),))
    assert alone(IMAGE) != alone(other)
    with engine_of(decoder) as engine:
        for asked in (IMAGE, other, IMAGE):
            stream = engine.submit(request(asked, eye))
            assert read(stream) == alone(asked)
    assert eye.encoded == [b"red", b"blue"]


def test_models_never_share_a_block() -> None:
    """Guards the root of the chain: the same prompt has other names with another model or other hints."""
    from vlrun.kv_cache.block_hash import block_hashes

    ids = list(range(12))
    names = [list(block_hashes(root, ids, [], 4)) for root in (b"one", b"two")]
    assert len(names[0]) == 3
    assert not set(names[0]) & set(names[1])


def test_the_same_question_at_once_is_computed_once() -> None:
    """Guards votes and impatient clicks: those that begin alike wait for the first one's blocks, others pass."""
    decoder, eye = FakeDecoder(200), Eye()
    eye.slow = 0.05
    other = prompt([9, 9, 9], 3)
    with engine_of(decoder, SchedulerConfig(prefill=8)) as engine:
        streams = [engine.submit(request(IMAGE, eye)) for _ in range(4)]
        quick = engine.submit(request(other, eye))
        assert read(quick) == alone(other)
        assert all(stream.figures.first is None for stream in streams), "the quick one waited for the image"
        assert [read(stream) for stream in streams] == [alone(IMAGE)] * 4
        assert [stream.figures.cached for stream in streams] == [0, 32, 32, 32]
    assert eye.encoded == [b"red"]


def test_a_long_prompt_does_not_freeze_a_running_answer() -> None:
    """Guards chunked prefill: beside an answer a prompt runs in small pieces, and the answer has a token in each."""
    decoder, eye = FakeDecoder(200), Eye()
    long, short = prompt([1] * 200, 2), prompt([2, 3], 60)
    decoder.slow = 0.002
    with engine_of(decoder, SchedulerConfig(prefill=512, beside=8)) as engine:
        first = iter(engine.submit(request(replace(short, max_tokens=400), eye, lookup=False)))
        next(first)
        second = engine.submit(request(long, eye))
        assert read(second) == alone(long)
        mixed = [steps for steps in decoder.calls if any(len(step.ids) > 1 and step.past for step in steps)]
        assert len(mixed) >= 20
        assert all(sum(len(step.ids) for step in steps) <= 1 + 8 for steps in mixed)
        assert all(any(len(step.ids) == 1 for step in steps) for steps in mixed)
        engine._scheduler.running[0].stream.close()


def test_first_come_first_served_when_room_is_short() -> None:
    """Guards against starvation: one that needs much is not overtaken for ever by those that need little."""
    decoder, eye = FakeDecoder(20), Eye()
    decoder.slow = 0.002
    small, large = prompt([1, 2, 3], 20), prompt([4] * 40, 20)
    with engine_of(decoder) as engine:
        streams = [engine.submit(request(asked, eye)) for asked in (small, small, large, small, small)]
        for stream, asked in zip(streams, (small, small, large, small, small), strict=True):
            assert read(stream) == alone(asked)
        begun = [stream.figures.begun or 0 for stream in streams]
        assert begun == sorted(begun)


def test_what_never_fits_is_refused() -> None:
    """Guards against a request that waits for ever."""
    refusal = pytest.raises(ContextLengthExceeded, match="may take 21 tokens, but the KV cache holds 20")
    with engine_of(FakeDecoder(5)) as engine, refusal:
        engine.submit(request(prompt([1], 20), Eye()))


def test_a_reader_who_leaves_during_vision_or_prefill() -> None:
    """Guards the slot: vision and prefill stop within a moment, not at their end."""
    decoder, eye = FakeDecoder(100), Eye()
    eye.slow = 30
    with engine_of(decoder) as engine:
        stream = engine.submit(request(IMAGE, eye))
        wait_for(lambda: bool(engine._looks))
        stream.close()
        wait_for(lambda: engine.pool.free == 100 and not engine._looks)
        eye.slow, decoder.slow = 0, 30
        stream = engine.submit(request(IMAGE, eye))
        wait_for(lambda: bool(decoder.calls))
        stream.close()
        wait_for(lambda: engine.pool.free == 100)
        decoder.slow = 0
        assert read(engine.submit(request(IMAGE, eye))) == alone(IMAGE)


def test_faults_reach_those_whom_they_concern() -> None:
    """Guards readers against waiting for ever, and the engine against one bad request."""
    decoder, eye = FakeDecoder(100), Eye()
    text = prompt([1, 2, 3], 5)
    with engine_of(decoder) as engine:
        eye.fault = RuntimeError("out of memory")
        with pytest.raises(DeviceError, match="the device failed: out of memory"):
            read(engine.submit(request(IMAGE, eye)))
        decoder.fault = RuntimeError("no more")
        with pytest.raises(DeviceError, match="the device failed: no more"):
            read(engine.submit(request(text, eye)))
        decoder.fault = eye.fault = None

        class Picky(Greedy):
            def choose(self, logits: FloatRow) -> int:
                raise OptionError("never")

        bad = engine.submit(replace(request(text, eye), chooser=Picky()))
        good = engine.submit(request(IMAGE, eye))
        with pytest.raises(OptionError, match="never"):
            read(bad)
        assert read(good) == alone(IMAGE)


def test_closing_ends_everything() -> None:
    """Guards shutdown: readers hear of it, threads are gone, later requests are refused."""
    before = threading.active_count()
    decoder, eye = FakeDecoder(100), Eye()
    decoder.slow = 30
    engine = Engine(decoder, ROOT)
    stream = engine.submit(request(prompt([1], 5), eye))
    wait_for(lambda: bool(decoder.calls))
    engine.close()
    with pytest.raises(EngineClosed):
        read(stream)
    with pytest.raises(EngineClosed):
        engine.submit(request(prompt([1], 5), eye))
    assert threading.active_count() == before


def test_features_outlive_evicted_blocks() -> None:
    """Guards against encoding an image again only because its blocks had to go."""
    decoder, eye = FakeDecoder(14), Eye()
    crowd = [prompt([n] * 30, 3) for n in range(10, 14)]
    with engine_of(decoder) as engine:
        for asked in (IMAGE, *crowd, IMAGE):
            stream = engine.submit(request(asked, eye))
            assert read(stream) == alone(asked)
        assert stream.figures.cached == 0
    assert eye.encoded == [b"red"]


def test_what_cannot_be_watched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards heat maps where keys cannot be read: refused in the caller's thread, and others are answered."""

    def refuse() -> None:
        raise OptionError("heat maps need another cache")

    decoder, eye = FakeDecoder(100), Eye()
    monkeypatch.setattr(decoder, "check_watch", refuse)
    monkeypatch.setattr(decoder, "read_keys", None)
    with engine_of(decoder) as engine:
        with pytest.raises(OptionError, match="heat maps need another cache"):
            engine.submit(request(IMAGE, eye, watch=True))
        stream = engine.submit(request(IMAGE, eye))
        assert read(stream) == alone(IMAGE)
    assert stream.watched is None
    assert not any(step.watch for steps in decoder.calls for step in steps)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_slow_reader_is_told_what_he_read() -> None:
    """Guards the figures: the engine runs ahead of its reader, whose answer has as many tokens as he took."""
    asked = prompt([1, 2, 3], 40)
    with engine_of(FakeDecoder(100)) as engine:
        stream = engine.submit(replace(request(asked, Eye()), eos=frozenset()))
        tokens = iter(stream)
        for _ in range(3):
            next(tokens)
        wait_for(lambda: not engine._scheduler.running)
        stream.close()
    assert stream.figures.tokens == 3
    assert 1 <= stream.figures.passes <= 3


def test_an_engine_may_be_forgotten_in_any_thread() -> None:
    """Guards the garbage collector, which may find a model in one of its own threads: nobody waits for himself."""
    before = threading.active_count()
    engine = Engine(FakeDecoder(10), ROOT)
    engine._inbox.append(engine.stop)
    engine._wake()
    wait_for(lambda: threading.active_count() == before)
    engine.close()


def test_a_thousand_requests_leave_nothing() -> None:
    """Guards a service that runs for months: objects and threads do not pile up."""
    decoder, eye = FakeDecoder(60), Eye()
    rng = np.random.default_rng(0)

    def some(count: int) -> None:
        streams = []
        for _ in range(count):
            first, last, key = (int(n) for n in rng.integers(0, 6, 3))
            words: list[int | tuple[bytes, int]] = [first, (bytes([key]), 9), last]
            streams.append(engine.submit(request(prompt(words, 4), eye)))
            if len(streams) == 8:
                for number, stream in enumerate(streams):
                    if number % 3:
                        read(stream)
                    stream.close()
                streams.clear()

    with engine_of(decoder) as engine:
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


class Foretelling(Greedy):
    """Knows some of the tokens that it will choose, or believes so."""

    def __init__(self, told: Sequence[Sequence[int]]) -> None:
        self._told = list(told)

    def forced(self) -> Sequence[int]:
        return self._told.pop(0) if self._told else ()


def test_tokens_that_must_come_are_run_together() -> None:
    """Guards forms: what a grammar foretells costs one pass, and what it foretells wrongly changes nothing."""
    tokens = alone(IMAGE)
    eye = Eye()
    with engine_of(FakeDecoder(60)) as engine:
        right = engine.submit(replace(request(IMAGE, eye), chooser=Foretelling([tokens[1:6]])))
        assert read(right) == tokens
        wrong = engine.submit(replace(request(IMAGE, eye), chooser=Foretelling([[1, 1], [], [2, 2, 2]])))
        assert read(wrong) == tokens
        plain = engine.submit(replace(request(IMAGE, eye), chooser=Foretelling([tokens[1:6]]), lookup=False))
        assert read(plain) == tokens
    assert right.figures.passes <= len(tokens) - 4
    assert plain.figures.passes == len(tokens)
