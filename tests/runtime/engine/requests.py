"""Requests for the engine without a device, and their answers by definition."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tests.runtime.engine.fake_decoder import Cell, FakeDecoder, key, query, scores
from vlrun.engine.backend import AttentionTrace
from vlrun.engine.engine import Engine
from vlrun.engine.request import PendingImage, Request, Stopped, TokenStream
from vlrun.engine.sampler import FloatRow
from vlrun.engine.scheduler import SchedulerConfig
from vlrun.errors import InferenceCancelled
from vlrun.kv_cache.block_hash import ImageSpan
from vlrun.kv_cache.prefix_store import PrefixStore
from vlrun.types.arrays import FloatArray

ROOT = b"model"
PAD = 49
"""The id of visual tokens: the same for all images."""
EOS = 7


class Greedy:
    """The likeliest token."""

    def choose(self, logits: FloatRow) -> int:
        return int(np.argmax(logits))

    def forced(self) -> Sequence[int]:
        return ()


class Eye:
    """A vision encoder that counts, and can be slow or fail."""

    def __init__(self) -> None:
        self.encoded: list[bytes] = []
        self.slow = 0.0
        self.fault: Exception | None = None

    def encode(self, key: bytes, tokens: int, stopped: Stopped) -> FloatArray:
        until = time.monotonic() + self.slow
        while time.monotonic() < until:
            time.sleep(0.001)
            if stopped():
                raise InferenceCancelled
        if self.fault:
            raise self.fault
        self.encoded.append(key)
        return features(key, tokens)


def features(key: bytes, tokens: int) -> FloatArray:
    return np.random.default_rng(list(key)).random((2, tokens, 3), np.float32)


@dataclass(frozen=True)
class Asked:
    """A prompt in short: ids, images as (start, tokens, key)."""

    ids: tuple[int, ...]
    images: tuple[tuple[int, int, bytes], ...]
    max_tokens: int


def prompt(words: Sequence[int | tuple[bytes, int]], max_tokens: int) -> Asked:
    """A prompt of ids and images, each image a key and its number of tokens."""
    ids: list[int] = []
    images = []
    for word in words:
        if isinstance(word, int):
            ids.append(word)
        else:
            images.append((len(ids), word[1], word[0]))
            ids += [PAD] * word[1]
    return Asked(tuple(ids), tuple(images), max_tokens)


def request(asked: Asked, eye: Eye, lookup: bool = True, watch: bool = False) -> Request:
    def pending(start: int, tokens: int, key: bytes) -> PendingImage:
        return PendingImage(ImageSpan(start, tokens, key), lambda stopped: eye.encode(key, tokens, stopped))

    return Request(
        ids=np.array(asked.ids),
        positions=np.tile(np.arange(len(asked.ids)), (3, 1)),
        images=tuple(pending(*image) for image in asked.images),
        chooser=Greedy(),
        max_tokens=asked.max_tokens,
        eos=frozenset({EOS}),
        guard=False,
        lookup=lookup,
        watch=watch,
    )


def alone(asked: Asked) -> list[int]:
    """The answer by definition, without blocks, cache or guesses."""
    text = cells(asked)
    answer: list[int] = []
    while len(answer) < asked.max_tokens and EOS not in answer:
        answer.append(int(np.argmax(scores(text))))
        text.append((answer[-1], (len(text),) * 3, b""))
    return answer


def watched_alone(asked: Asked, answer: Sequence[int]) -> AttentionTrace:
    """By definition, what the tokens of an answer looked at."""
    prompt = cells(asked)
    places = enumerate(answer, len(prompt))
    text = prompt + [(token, (place,) * 3, b"") for place, token in places]
    queries = [query(text[:length]) for length in range(len(prompt), len(text))]
    return AttentionTrace(np.stack(queries).astype(np.float16), np.stack([key(cell) for cell in prompt])[None])


def cells(asked: Asked) -> list[Cell]:
    """What a prompt writes."""
    seen: dict[int, bytes] = {}
    for start, tokens, name in asked.images:
        seen |= {start + place: features(name, tokens)[:, place].tobytes() for place in range(tokens)}
    return [(token, (place,) * 3, seen.get(place, b"")) for place, token in enumerate(asked.ids)]


@contextmanager
def engine_of(
    decoder: FakeDecoder, limits: SchedulerConfig | None = None, store: PrefixStore | None = None
) -> Iterator[Engine]:
    engine = Engine(decoder, store.root if store else ROOT, limits, store)
    try:
        yield engine
        wait_for(lambda: engine.pool.free == decoder.blocks)
    finally:
        engine.close()
    assert engine.pool.free == decoder.blocks, "blocks were not given back"


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.001)


def read(stream: TokenStream) -> list[int]:
    return list(stream)
