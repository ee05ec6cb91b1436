"""From picture to tokens against transformers, and every path of the cache against every other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlrun import VLM, Hints, Options, load
from vlrun.engine.engine import Engine, Request
from vlrun.engine.sampler import Sampling
from vlrun.errors import ContextLengthExceeded, DeviceError, OptionError
from vlrun.media.image import open_picture
from vlrun.model.decoder import Decoder, SequenceStep
from vlrun.text.template import Message, PicturePart

pytest.importorskip("torch", reason="needs the workbench packages")
from tests.runtime.reference import Reference

EXACT = Hints(decoder_precision="f32", vision_precision="f32", kv_precision="f32", group_size=0)
PENALTY = 1.5
QUESTION = "How many bottles are there? 这里有几个瓶子？"


def picture(width: int, height: int) -> Image.Image:
    """Smooth coloured noise: unlike white noise, something that a resize does not average away."""
    rng = np.random.default_rng(width * 10_000 + height)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


# Odd sides, portrait, landscape, panorama, the smallest, two pictures, text only.
SCENES = {
    "odd": [(133, 97)],
    "portrait": [(96, 320)],
    "landscape": [(320, 200)],
    "panorama": [(700, 30)],
    "smallest": [(9, 7)],
    "two": [(160, 96), (64, 224)],
    "text": [],
}


@pytest.fixture(scope="module")
def vlm(small_model: Path) -> VLM:
    return load(small_model, hints=EXACT)


@pytest.fixture(scope="module")
def reference(small_checkpoint: Path) -> Reference:
    return Reference(small_checkpoint)


def request_for(vlm: VLM, images: Sequence[Image.Image], max_tokens: int = 64) -> Request:
    """What the engine gets for a question about the images: greedy, without an end, and without endless repetition."""
    patches = [vlm._cut(open_picture(image), Options()) for image in images]
    message = Message("user", (*(PicturePart() for _ in images), QUESTION))
    prompt = vlm._template.encode([message], [cut.grid.tokens for cut in patches])
    request = vlm._request(prompt, patches, Options(max_tokens=max_tokens))
    return dataclasses.replace(request, sampling=Sampling(temperature=0, repetition_penalty=PENALTY), eos=frozenset())


class Recorder:
    """A decoder that remembers its logits."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.blocks, self.block_size = decoder.blocks, decoder.block_size
        self.logits: list[np.ndarray] = []

    def forward(self, steps: Sequence[SequenceStep]) -> np.ndarray:
        logits = self._decoder.forward(steps)
        self.logits.append(logits[0])
        return logits


def run(vlm: VLM, request: Request, chunk: int = 512) -> tuple[list[int], np.ndarray]:
    """Tokens, and the logits after the prompt and after every token but the last."""
    recorder = Recorder(vlm._engine._decoder)
    engine = Engine(recorder, vlm.manifest.text.vocab_size, chunk)  # type: ignore[arg-type]
    tokens = list(engine.generate(request))
    assert engine.pool.free == recorder.blocks, "blocks were not given back"
    return tokens, np.stack(recorder.logits[-len(tokens) :])


@pytest.mark.parametrize("scene", SCENES)
def test_equals_transformers(vlm: VLM, reference: Reference, scene: str) -> None:
    """Guards the whole way: preprocessing, vision, DeepStack, positions, cache. Logits within 1e-4 of the reference's
    scale at every step, 64 greedy tokens identical.
    """
    images = [picture(*size) for size in SCENES[scene]]
    request = request_for(vlm, images)
    tokens, logits = run(vlm, request)
    assert tokens == reference.greedy(request, images, vlm.manifest.text.vocab_size, PENALTY)
    expected = reference.logits([*request.ids, *tokens], images)[len(request.ids) - 1 : -1]
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
    assert len(set(tokens)) > 8, "the model repeats itself: the comparison would prove little"


@pytest.mark.parametrize("scene", ["odd", "two", "text"])
@pytest.mark.parametrize("chunk", [1, 7, 32])
def test_chunked_prefill_equals_whole(vlm: VLM, scene: str, chunk: int) -> None:
    """Guards chunk borders, in the middle of a picture and of a block too."""
    request = request_for(vlm, [picture(*size) for size in SCENES[scene]], max_tokens=12)
    tokens, logits = run(vlm, request)
    chunked_tokens, chunked_logits = run(vlm, request, chunk)
    assert chunked_tokens == tokens
    np.testing.assert_allclose(chunked_logits, logits, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize("scene", ["odd", "two", "text"])
def test_cached_equals_uncached(vlm: VLM, scene: str) -> None:
    """Guards the KV cache: each decode step equals a prefill of everything so far."""
    request = request_for(vlm, [picture(*size) for size in SCENES[scene]], max_tokens=6)
    tokens, logits = run(vlm, request)
    for step in range(1, 6):
        following = int(request.positions.max()) + 1 + np.arange(step)
        longer = dataclasses.replace(
            request,
            ids=np.concatenate([request.ids, tokens[:step]]),
            positions=np.concatenate([request.positions, np.tile(following, (3, 1))], axis=1),
            max_tokens=1,
        )
        _, uncached = run(vlm, longer)
        np.testing.assert_allclose(uncached[0], logits[step], atol=1e-4 * np.abs(logits).max())


def test_two_answers_in_turn_do_not_mix(vlm: VLM) -> None:
    """Guards block tables: two streams read alternately give what each gives alone."""
    first, second = (request_for(vlm, [picture(*size)], max_tokens=20) for size in ((133, 97), (96, 320)))
    alone = [list(vlm._engine.generate(request)) for request in (first, second)]
    turns = zip(vlm._engine.generate(first), vlm._engine.generate(second), strict=True)
    assert [list(tokens) for tokens in zip(*turns, strict=True)] == alone
    assert vlm._engine.pool.free == vlm._engine._decoder.blocks


def test_batched_equals_alone(vlm: VLM) -> None:
    """Guards the layout of a step with several sequences of different lengths and pasts."""
    decoder = vlm._engine._decoder
    requests = [request_for(vlm, [picture(*size)]) for size in ((133, 97), (96, 320))]
    steps = []
    for number, request in enumerate(requests):
        blocks = list(range(number * 40, number * 40 + 40))
        steps.append(SequenceStep(request.ids, request.positions, 0, blocks, request.visuals))
    together = decoder.forward(steps)
    alone = np.concatenate([decoder.forward([step]) for step in steps])
    np.testing.assert_allclose(together, alone, atol=1e-4 * np.abs(alone).max())


def test_stopping_early_frees_blocks(vlm: VLM) -> None:
    """Guards against leaks: a reader who leaves gives the blocks back at once."""
    chunks = vlm.stream(picture(133, 97), QUESTION, Options(temperature=0))
    next(chunks)
    assert vlm._engine.pool.free < vlm._engine._decoder.blocks
    chunks.close()  # type: ignore[attr-defined]
    assert vlm._engine.pool.free == vlm._engine._decoder.blocks


def test_stream_and_ask_say_the_same(vlm: VLM) -> None:
    """Guards the two names of one thing, and the figures of the answer."""
    options = Options(max_tokens=30, temperature=0.8, seed=5)
    chunks = list(vlm.stream(picture(133, 97), QUESTION, options))
    answer = vlm.ask(picture(133, 97), QUESTION, options)
    assert chunks[-1].answer is not None
    assert "".join(chunk.text for chunk in chunks) == answer.text == chunks[-1].answer.text
    assert answer.usage.completion_tokens <= 30
    assert answer.usage.image_tokens < answer.usage.prompt_tokens
    assert answer.timings.ttft >= answer.timings.vision + answer.timings.prefill


def test_context_limit(small_model: Path) -> None:
    """Guards the end of the context: refused before work starts, with numbers; an answer ends where it is full."""
    vlm = load(small_model, hints=EXACT, context=64)
    with pytest.raises(ContextLengthExceeded, match=r"tokens \(\d+ of pictures, \d+ of text\), but the context is 64"):
        vlm.stream([picture(320, 200)] * 2, QUESTION)
    answer = vlm.ask([], "Hi", Options(temperature=0))
    assert answer.finish_reason in ("length", "stop")
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens <= 64


def test_stop_string_ends_the_answer(vlm: VLM) -> None:
    """Guards stop strings end to end: text before it stays, finish reason is stop."""
    options = Options(max_tokens=60, temperature=0)
    whole = vlm.ask(picture(133, 97), QUESTION, options).text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    answer = vlm.ask(picture(133, 97), QUESTION, dataclasses.replace(options, stop=(stop,)))
    assert answer.text == whole[: whole.find(stop)]
    assert answer.finish_reason == "stop"


def test_wrong_device_and_hint(small_model: Path) -> None:
    """Guards the sentences for a missing GPU and for a hint that the plugin refuses."""
    with pytest.raises(DeviceError, match="no device 'GPU' here; available: CPU"):
        load(small_model, hints=Hints(device="GPU"))
    with pytest.raises(OptionError, match="KV_CACHE_PRECISION=u7"):
        load(small_model, hints=Hints(kv_precision="u7"))


@pytest.fixture(autouse=True)
def blocks_add_up(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test every block is free again."""
    yield
    if "vlm" in request.fixturenames:
        vlm: VLM = request.getfixturevalue("vlm")
        assert vlm._engine.pool.free == vlm._engine._decoder.blocks
