"""Requests for the engine without a device, and the expected output of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tests.runtime.engine.fake_decoder import Cell, FakeDecoder, key, query, scores
from vlrun.engine.backend import AttentionTrace
from vlrun.engine.engine import Engine
from vlrun.engine.request import PromptImage, Request
from vlrun.engine.scheduler import SchedulerConfig
from vlrun.errors import InferenceCancelled
from vlrun.kv_cache.prefix_store import PrefixStore
from vlrun.types.arrays import FloatArray
from vlrun.vision.encoder_queue import EncoderQueue
from vlrun.vision.features import ImageFeatures

ROOT = b"model"
IMAGE_TOKEN = 49
"""All images have the same token id."""
EOS = 7


class GreedySampler:
    """Samples the most likely token."""

    def sample(self, logits: FloatArray) -> int:
        return int(np.argmax(logits))

    def forced_tokens(self) -> Sequence[int]:
        return ()


@dataclass(frozen=True)
class FakeImage:
    """An image given by its key and number of tokens."""

    key: bytes
    tokens: int


class FakeEncoder:
    """A vision encoder that records its images and can be slow or fail."""

    def __init__(self) -> None:
        self.encoded: list[bytes] = []
        self.slow = 0.0
        self.error: Exception | None = None

    def encode(self, image: FakeImage, stopped: Callable[[], bool]) -> ImageFeatures:
        until = time.monotonic() + self.slow
        while time.monotonic() < until:
            time.sleep(0.001)
            if stopped():
                raise InferenceCancelled
        if self.error:
            raise self.error
        self.encoded.append(image.key)
        return ImageFeatures(features(image.key, image.tokens))


def features(image_key: bytes, tokens: int) -> FloatArray:
    return np.random.default_rng(list(image_key)).random((2, tokens, 3), np.float32)


@dataclass(frozen=True)
class Prompt:
    """A prompt: ids, and images as (start, tokens, key)."""

    ids: tuple[int, ...]
    images: tuple[tuple[int, int, bytes], ...]
    max_tokens: int


def make_prompt(items: Sequence[int | tuple[bytes, int]], max_tokens: int) -> Prompt:
    """Build a prompt of ids and images; an image is a key and its number of tokens."""
    ids: list[int] = []
    images = []
    for item in items:
        if isinstance(item, int):
            ids.append(item)
        else:
            images.append((len(ids), item[1], item[0]))
            ids += [IMAGE_TOKEN] * item[1]
    return Prompt(tuple(ids), tuple(images), max_tokens)


def make_request(prompt: Prompt, prompt_lookup: bool = True, record_attention: bool = False) -> Request:
    return Request(
        ids=np.array(prompt.ids),
        positions=np.tile(np.arange(len(prompt.ids)), (3, 1)),
        images=tuple(PromptImage(start, FakeImage(name, tokens)) for start, tokens, name in prompt.images),
        sampler=GreedySampler(),
        max_tokens=prompt.max_tokens,
        eos=frozenset({EOS}),
        repetition_guard=False,
        prompt_lookup=prompt_lookup,
        record_attention=record_attention,
    )


def expected_tokens(prompt: Prompt) -> list[int]:
    """Compute the output by definition: no blocks, no cache, no guesses."""
    text = cells(prompt)
    output: list[int] = []
    while len(output) < prompt.max_tokens and EOS not in output:
        output.append(int(np.argmax(scores(text))))
        text.append((output[-1], (len(text),) * 3, b""))
    return output


def expected_attention(prompt: Prompt, output: Sequence[int]) -> AttentionTrace:
    """Compute by definition what is recorded for the tokens of an output."""
    start = cells(prompt)
    places = enumerate(output, len(start))
    text = start + [(token, (place,) * 3, b"") for place, token in places]
    queries = [query(text[:length]) for length in range(len(start), len(text))]
    return AttentionTrace(np.stack(queries).astype(np.float16), np.stack([key(cell) for cell in start])[None])


def cells(prompt: Prompt) -> list[Cell]:
    """Return what a prompt writes into the cache."""
    image_rows: dict[int, bytes] = {}
    for start, tokens, name in prompt.images:
        image_rows |= {start + place: features(name, tokens)[:, place].tobytes() for place in range(tokens)}
    return [(token, (place,) * 3, image_rows.get(place, b"")) for place, token in enumerate(prompt.ids)]


@contextmanager
def running_engine(
    decoder: FakeDecoder,
    encoder: FakeEncoder | None = None,
    config: SchedulerConfig | None = None,
    store: PrefixStore | None = None,
) -> Iterator[Engine]:
    """Run an engine; afterwards every block of the cache must be free."""
    queue = EncoderQueue((encoder or FakeEncoder()).encode)
    engine = Engine(decoder, queue, store.root if store else ROOT, config, store)
    try:
        yield engine
        wait_for(lambda: engine.pool.free == decoder.blocks)
    finally:
        queue.stop()
        engine.close()
        queue.close()
    assert engine.pool.free == decoder.blocks, "blocks leak"


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "the condition did not become true"
        time.sleep(0.001)
