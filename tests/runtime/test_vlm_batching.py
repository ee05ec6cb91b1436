"""Any mix of requests on the embedded model gives each request the tokens that it gets alone."""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vlrun
from tests.paths import EXAMPLES
from tests.runtime.engine.requests import wait_for
from vlrun.engine.backend import Decoder, SequenceStep, StepOutput
from vlrun.engine.engine import Engine
from vlrun.engine.request import Request
from vlrun.engine.sampler import Sampler
from vlrun.engine.scheduler import SchedulerConfig
from vlrun.kv_cache.prefix_store import PrefixStore
from vlrun.prompt.builder import user_turn

pytestmark = pytest.mark.slow

QUESTIONS = ("How many bottles are there?", "图中有多少个瓶子？", "Describe this image.", "Where is the red bag?")
SCENES = ((), ("shelf",), ("shapes",), ("word",), ("price_tag", "shelf"))
MIB = 2**20


class SmallCacheDecoder:
    """The real decoder with fewer blocks, so that requests have to wait for memory."""

    def __init__(self, decoder: Decoder, blocks: int) -> None:
        self.name, self.recorder = decoder.name, decoder.recorder
        self.blocks, self.block_size, self.block_bytes = blocks, decoder.block_size, decoder.block_bytes
        self.read_blocks, self.write_blocks = decoder.read_blocks, decoder.write_blocks
        self._decoder = decoder

    def forward(self, steps: Sequence[SequenceStep], stopped: Callable[[], bool]) -> list[StepOutput]:
        return self._decoder.forward(steps, stopped)


@pytest.fixture(scope="module")
def vlm() -> vlrun.VLM:
    return vlrun.load()


def make_request(vlm: vlrun.VLM, scene: int, question: int, max_tokens: int) -> Request:
    images = [EXAMPLES / f"{name}.png" for name in SCENES[scene]]
    options = vlrun.Options(temperature=0, max_tokens=max_tokens)
    built = vlm.build_prompt([user_turn(images, QUESTIONS[question])])
    params = options.sampling(vlm.manifest.generation)
    return vlm.build_request(built, Sampler(params, built.prompt.ids, vlm.manifest.text.vocab_size), max_tokens)


KNOWN: dict[tuple[int, int, int], list[int]] = {}


def tokens_alone(vlm: vlrun.VLM, scene: int, question: int, max_tokens: int) -> list[int]:
    key = (scene, question, max_tokens)
    if key not in KNOWN:
        engine = Engine(vlm.engine.decoder, vlm.engine.encoder, b"", SchedulerConfig(max_sequences=1, guessed_tokens=0))
        KNOWN[key] = list(engine.submit(dataclasses.replace(make_request(vlm, *key), prompt_lookup=False)))
        engine.close()
    return KNOWN[key]


REQUESTS = st.tuples(st.integers(0, len(SCENES) - 1), st.integers(0, len(QUESTIONS) - 1), st.sampled_from([1, 9, 40]))
CONFIGS = st.builds(
    SchedulerConfig,
    max_sequences=st.integers(1, 6),
    prefill_tokens=st.integers(1, 200),
    mixed_prefill_tokens=st.integers(1, 64),
    guessed_tokens=st.integers(0, 9),
)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(REQUESTS, st.integers(0, 12) | st.none()), min_size=1, max_size=7),
    CONFIGS,
    st.integers(8, 30),
    st.booleans(),
)
def test_any_mix_gives_the_tokens_of_single_requests(
    vlm: vlrun.VLM,
    plans: list[tuple[tuple[int, int, int], int | None]],
    config: SchedulerConfig,
    blocks: int,
    stored: bool,
) -> None:
    """Covers batching, chunks, shared and evicted blocks, guesses, closed streams and stored prefixes at the default
    precision (quantized activations, 8-bit cache).
    """
    decoder = SmallCacheDecoder(vlm.engine.decoder, blocks)
    expected = {key: tokens_alone(vlm, *key) for key, _ in plans}  # first: both engines use the same blocks
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):  # the second engine finds the prefixes that the first one stored
            store = PrefixStore(Path(folder), b"", 64 * MIB) if stored else None
            engine = Engine(decoder, vlm.engine.encoder, b"", config, store)
            try:
                streams = [(engine.submit(make_request(vlm, *key)), key, read) for key, read in plans]
                for stream, key, read in streams:
                    tokens = iter(stream)
                    got = [token for token, _ in zip(tokens, range(read), strict=False)] if read else []
                    got = list(tokens) if read is None else got
                    stream.close()
                    assert got == expected[key][:read]
                wait_for(functools.partial(all_blocks_free, engine))
            finally:
                engine.close()


def all_blocks_free(engine: Engine) -> bool:
    return engine.pool.free == engine.pool.blocks


def test_hundreds_of_requests_leave_memory_threads_and_files_unchanged(vlm: vlrun.VLM) -> None:
    """Guards against leaks in a service that runs for months."""

    def ask(count: int) -> None:
        for number in range(count):
            chunks = vlm.stream(
                [EXAMPLES / f"{name}.png" for name in SCENES[number % len(SCENES)]],
                f"{QUESTIONS[number % len(QUESTIONS)]} {number % 7}",
                vlrun.Options(temperature=0, max_tokens=4),
            )
            for chunk in chunks:
                if number % 3 == 0 or chunk.answer:
                    break
            chunks.close()

    def resources() -> tuple[int, int, int]:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return resident, threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    ask(150)  # each prompt once
    before = resources()
    ask(350)
    after = resources()
    assert after[0] - before[0] < 10 * MIB
    assert after[1:] == before[1:]
