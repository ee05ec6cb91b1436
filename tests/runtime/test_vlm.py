"""From image to tokens against transformers, and every path of the cache against every other."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vlrun import VLM, CacheConfig, Hints, Options, load
from vlrun.backends.openvino import device
from vlrun.engine.backend import Decoder, PlacedFeatures, SequenceStep, StepOutput
from vlrun.engine.engine import Engine
from vlrun.engine.request import Request
from vlrun.engine.sampler import Sampler
from vlrun.engine.scheduler import SchedulerConfig
from vlrun.errors import ContextLengthExceeded, DeviceError, EngineClosed, OptionError
from vlrun.prompt.builder import user_turn
from vlrun.types.sampling import SamplingParams

pytest.importorskip("torch", reason="needs the workbench packages")
from tests.runtime.reference import Reference

EXACT = Hints(decoder_precision="f32", vision_precision="f32", kv_precision="f32", group_size=0)
PENALTY = 1.5
QUESTION = "How many bottles are there? 这里有几个瓶子？"


def image(width: int, height: int) -> Image.Image:
    """Smooth coloured noise: unlike white noise, something that a resize does not average away."""
    rng = np.random.default_rng(width * 10_000 + height)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


# Odd sides, portrait, landscape, panorama, the smallest, two images, text only.
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
    built = vlm.build_prompt([user_turn(list(images), QUESTION)])
    request = vlm.build_request(built, greedy(vlm, built.prompt.ids), max_tokens)
    return dataclasses.replace(request, eos=frozenset())


def greedy(vlm: VLM, prompt: Sequence[int]) -> Sampler:
    """A fresh sampler: it counts what it chose."""
    sampling = SamplingParams(temperature=0, repetition_penalty=PENALTY)
    return Sampler(sampling, list(prompt), vlm.manifest.text.vocab_size)


class Recorder:
    """A decoder that remembers the logits of its answers' tokens."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.name, self.recorder = decoder.name, decoder.recorder
        self.blocks, self.block_size, self.block_bytes = decoder.blocks, decoder.block_size, decoder.block_bytes
        self.read_blocks, self.write_blocks = decoder.read_blocks, decoder.write_blocks
        self.logits: list[np.ndarray] = []

    def forward(self, steps: Sequence[SequenceStep], stopped: Callable[[], bool]) -> list[StepOutput]:
        outputs = self._decoder.forward(steps, stopped)
        self.logits += list(outputs[0].logits)
        return outputs


def run(vlm: VLM, request: Request, chunk: int = 512) -> tuple[list[int], np.ndarray]:
    """Tokens, and the logits after the prompt and after every token but the last, with an empty cache."""
    recorder = Recorder(vlm.engine.decoder)
    engine = Engine(recorder, vlm.engine.encoder, b"", SchedulerConfig(prefill_tokens=chunk))
    plain = dataclasses.replace(request, sampler=greedy(vlm, request.ids.tolist()), prompt_lookup=False)
    try:
        tokens = list(engine.submit(plain))
    finally:
        engine.close()
    assert engine.pool.free == recorder.blocks, "blocks were not given back"
    return tokens, np.stack(recorder.logits[-len(tokens) :])


@pytest.mark.parametrize("scene", SCENES)
def test_equals_transformers(vlm: VLM, reference: Reference, scene: str) -> None:
    """Guards the whole way: preprocessing, vision, DeepStack, positions, cache. Logits within 1e-4 of the reference's
    scale at every step, 64 greedy tokens identical.
    """
    images = [image(*size) for size in SCENES[scene]]
    request = request_for(vlm, images)
    tokens, logits = run(vlm, request)
    assert tokens == reference.greedy(request, images, vlm.manifest.text.vocab_size, PENALTY)
    expected = reference.logits([*request.ids, *tokens], images)[len(request.ids) - 1 : -1]
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
    assert len(set(tokens)) > 8, "the model repeats itself: the comparison would prove little"


@pytest.mark.parametrize("scene", ["odd", "two", "text"])
@pytest.mark.parametrize("chunk", [1, 64])
def test_chunked_prefill_equals_whole(vlm: VLM, scene: str, chunk: int) -> None:
    """Guards chunk borders, in the middle of an image too."""
    request = request_for(vlm, [image(*size) for size in SCENES[scene]], max_tokens=12)
    tokens, logits = run(vlm, request)
    chunked_tokens, chunked_logits = run(vlm, request, chunk)
    assert chunked_tokens == tokens
    np.testing.assert_allclose(chunked_logits, logits, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize("scene", ["odd", "two", "text"])
def test_cached_equals_uncached(vlm: VLM, scene: str) -> None:
    """Guards the KV cache: each decode step equals a prefill of everything so far."""
    request = request_for(vlm, [image(*size) for size in SCENES[scene]], max_tokens=6)
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


def test_many_at_once_do_not_mix(vlm: VLM) -> None:
    """Guards a step of the real decoder with prompts and answers of several lengths, and its prefix cache: everyone
    gets what he gets alone, the second time out of the cache too.
    """
    requests = [request_for(vlm, [image(*size) for size in SCENES[scene]], max_tokens=20) for scene in SCENES]
    alone = [run(vlm, request)[0] for request in requests]
    for _ in range(2):
        fresh = [dataclasses.replace(r, sampler=greedy(vlm, r.ids.tolist())) for r in requests]
        streams = [vlm.engine.submit(request) for request in fresh]
        assert [list(stream) for stream in streams] == alone
    assert all(s.metrics.cached_tokens > 32 for s, r in zip(streams, requests, strict=True) if len(r.ids) > 96)


def test_one_changed_pixel_is_another_image(vlm: VLM, tmp_path: Path) -> None:
    """Guards against yesterday's answer: an overwritten file of the same name and size, one pixel apart."""
    path = tmp_path / "snap.png"
    snap = image(160, 96)
    counts = []
    for value in (0, 0, 1):
        snap.putpixel((3, 3), (value, 0, 0))
        snap.save(path)
        counts.append(vlm.ask(path, QUESTION, Options(max_tokens=2)).usage.cached_tokens)
    again = vlm.ask(
        path,
        QUESTION,
        Options(max_tokens=2),
    ).usage.cached_tokens
    assert counts[0] == counts[2] == 0
    assert counts[1] == again > 0


@pytest.mark.parametrize("group_size", [0, 128])
def test_the_eight_bit_cache_forgets_how_it_was_written(small_model: Path, group_size: int) -> None:
    """Guards the defaults: with scales for each channel of a block, as the plugin would have it, guesses that were
    wrong and answers that others continue leave traces in the keys. Prefilled equals decoded, guessed equals plain.
    """
    question = "aa bb aa bb aa bb aa"
    with load(small_model, hints=Hints(group_size=group_size)) as vlm:
        answers = []
        for lookup in (False, True):
            options = Options(max_tokens=60, temperature=0, presence_penalty=0, prompt_lookup=lookup)
            vlm.engine.pool.evict_all()
            answers.append(vlm.ask([], question, options))
        assert answers[0].text == answers[1].text
        scored = []
        for chunk in (True, False):
            vlm.engine.pool.evict_all()
            if chunk:
                vlm.ask([], question, Options(max_tokens=2))
            scored.append(vlm.score([], question, answers[0].text[:20]))
    np.testing.assert_allclose(scored[0], scored[1], atol=2e-5 * np.abs(scored[1]).max())


def test_scores_are_whole(vlm: VLM) -> None:
    """Guards a long or repetitive answer from being cut by limits meant for generated ones."""
    assert len(vlm.score([], "Hi", "a" * 300)) == 301
    with pytest.raises(ContextLengthExceeded, match="the context is 4096"):
        vlm.score([], "Hi", "a " * 5000)


def test_impossible_cache_is_refused(small_model: Path) -> None:
    """Guards against an option that is lowered in silence, and a cache larger than the memory."""
    with pytest.raises(OptionError, match="allows at most 4096"):
        load(small_model, cache=CacheConfig(context=5000))
    with pytest.raises(OptionError, match="but this machine has"):
        load(small_model, cache=CacheConfig(kv_memory=2**60))


def test_closed_models_say_so(small_model: Path) -> None:
    """Guards the end: threads are gone, a question afterwards is refused in one sentence."""
    before = set(threading.enumerate())
    with load(small_model, hints=EXACT) as vlm:
        assert vlm.ask([], "Hi", Options(max_tokens=3)).usage.completion_tokens
        assert set(threading.enumerate()) - before
    assert not set(threading.enumerate()) - before
    with pytest.raises(EngineClosed):
        vlm.ask([], "Hi")


def test_batched_equals_alone(vlm: VLM) -> None:
    """Guards the layout of a step with several sequences of different lengths and pasts."""
    decoder = vlm.engine.decoder
    requests = [request_for(vlm, [image(*size)]) for size in ((133, 97), (96, 320))]
    steps = []
    for number, request in enumerate(requests):
        blocks = list(range(number * 40, number * 40 + 40))
        (seen,) = request.images
        features = vlm.engine.encoder.submit(seen.source, threading.Event()).features.result()
        images = (PlacedFeatures(seen.start, features),)
        steps.append(SequenceStep(request.ids, request.positions, 0, blocks, images, rows=1 + number * 2))
    together = [output.logits for output in decoder.forward(steps, never)]
    alone = [decoder.forward([step], never)[0].logits for step in steps]
    assert [rows.shape for rows in together] == [rows.shape for rows in alone]
    assert [len(rows) for rows in together] == [1, 3]
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    vlm.engine.pool.evict_all()  # these blocks were written behind its back


def never() -> bool:
    """Nobody leaves."""
    return False


def test_stopping_early_frees_blocks(vlm: VLM) -> None:
    """Guards against leaks: a reader who leaves gives the blocks back at once."""
    chunks = vlm.stream(image(133, 97), QUESTION, Options(temperature=0))
    next(chunks)
    assert vlm.engine.pool.free < vlm.engine.pool.blocks
    chunks.close()
    assert all_free(vlm)


def test_stream_and_ask_say_the_same(vlm: VLM) -> None:
    """Guards the two names of one thing, and the figures of the answer."""
    options = Options(max_tokens=30, temperature=0.8, seed=5)
    chunks = list(vlm.stream(image(133, 97), QUESTION, options))
    answer = vlm.ask(image(133, 97), QUESTION, options)
    assert chunks[-1].answer is not None
    assert "".join(chunk.text for chunk in chunks) == answer.text == chunks[-1].answer.text
    assert answer.usage.completion_tokens <= 30
    assert answer.usage.image_tokens < answer.usage.prompt_tokens
    assert answer.timings.ttft >= answer.timings.vision + answer.timings.prefill
    assert chunks[-1].answer.usage.forward_passes <= chunks[-1].answer.usage.completion_tokens


def test_context_limit(small_model: Path) -> None:
    """Guards the end of the context: refused before work starts, with numbers; an answer ends where it is full."""
    vlm = load(small_model, hints=EXACT, cache=CacheConfig(context=64))
    with pytest.raises(ContextLengthExceeded, match=r"tokens \(\d+ of images, \d+ of text\), but the context is 64"):
        vlm.stream([image(320, 200)] * 2, QUESTION)
    answer = vlm.ask([], "Hi", Options(temperature=0))
    assert answer.finish_reason in ("length", "stop")
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens <= 64


def test_stop_string_ends_the_answer(vlm: VLM) -> None:
    """Guards stop strings end to end: text before it stays, finish reason is stop."""
    options = Options(max_tokens=60, temperature=0)
    whole = vlm.ask(image(133, 97), QUESTION, options).text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    answer = vlm.ask(image(133, 97), QUESTION, dataclasses.replace(options, stop=(stop,)))
    assert answer.text == whole[: whole.find(stop)]
    assert answer.finish_reason == "stop"


def test_wrong_device_and_hint(small_model: Path) -> None:
    """Guards the sentences for a missing GPU and for a hint that the plugin refuses."""
    with pytest.raises(DeviceError, match="no device 'GPU'; available: CPU"):
        load(small_model, hints=Hints(device="GPU"))
    with pytest.raises(OptionError, match="KV_CACHE_PRECISION=u7"):
        load(small_model, hints=Hints(kv_precision="u7"))


def test_auto_falls_back_with_a_note(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a silent fallback: without a GPU, and with one that refuses the model, the CPU answers and says
    why. There is no GPU here: one is played, as far as the question which device to take goes.
    """
    with load(small_model, hints=Hints(device="AUTO")) as vlm:
        assert vlm.notes == ("device AUTO: using the CPU, because this machine has no integrated GPU",)
        assert vlm.ask([], "Hi", Options(max_tokens=2)).usage.completion_tokens
    with load(small_model) as vlm:
        assert vlm.notes == ()
    devices = {"GPU.0": "Type.DISCRETE", "GPU.1": "Type.INTEGRATED"}
    monkeypatch.setattr(device, "_integrated", lambda _, name: "INTEGRATED" in devices[name])
    monkeypatch.setattr("openvino.Core", lambda: SimpleNamespace(available_devices=["CPU", *devices]))
    assert [hints.device for hints in device.candidates(Hints(device="AUTO"))] == ["GPU.1", "CPU"]
    monkeypatch.undo()
    monkeypatch.setattr("vlrun.backends.openvino.backend.candidates", lambda hints: [Hints(device="GPU.1"), Hints()])
    with load(small_model, hints=Hints(device="AUTO")) as vlm:
        (note,) = vlm.notes
    assert note.startswith("device AUTO: using the CPU, because there is no device 'GPU.1'")


@pytest.fixture(autouse=True)
def blocks_add_up(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test every block is free again."""
    yield
    if "vlm" in request.fixturenames:
        vlm: VLM = request.getfixturevalue("vlm")
        assert all_free(vlm)


def all_free(vlm: VLM) -> bool:
    """Whether every block is free, or becomes so within a moment."""
    until = time.monotonic() + 10
    while vlm.engine.pool.free < vlm.engine.pool.blocks and time.monotonic() < until:
        time.sleep(0.005)
    return vlm.engine.pool.free == vlm.engine.pool.blocks
