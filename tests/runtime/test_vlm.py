"""Model output compared with transformers, and every cache path compared with an uncached run."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlrun import VLM, CacheConfig, Hints, Options, load
from vlrun.engine.backend import Decoder, PlacedFeatures, SequenceStep, StepOutput
from vlrun.engine.engine import Engine
from vlrun.engine.request import Cancellation, Request
from vlrun.engine.sampler import Sampler
from vlrun.engine.scheduler import SchedulerConfig
from vlrun.errors import ContextLengthExceeded, EngineClosed, OptionError
from vlrun.media.image import derive_image, open_image
from vlrun.models.model_folder import ModelFolder
from vlrun.perf.history import record
from vlrun.perf.profile import SpeedProfile
from vlrun.prompt.builder import user_turn
from vlrun.prompt.chat_template import Message
from vlrun.types.answer import Chunk
from vlrun.types.sampling import SamplingParams

pytest.importorskip("torch", reason="needs the workbench packages")
from tests.runtime.reference import Reference

EXACT = Hints(decoder_precision="f32", vision_precision="f32", kv_precision="f32", group_size=0)
PENALTY = 1.5
QUESTION = "How many bottles are there? 这里有几个瓶子？"


def image(width: int, height: int) -> Image.Image:
    """Return smooth coloured noise: resizing averages white noise away, but not this."""
    rng = np.random.default_rng(width * 10_000 + height)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


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


def greedy_request(vlm: VLM, images: Sequence[Image.Image], max_tokens: int = 64) -> Request:
    """Build a greedy request without stop tokens and with a repetition penalty."""
    built = vlm.build_prompt([user_turn(list(images), QUESTION)])
    request = vlm.build_request(built, greedy_sampler(vlm, built.prompt.ids), max_tokens)
    return dataclasses.replace(request, eos=frozenset())


def greedy_sampler(vlm: VLM, prompt: Sequence[int]) -> Sampler:
    """Return a new sampler: samplers keep token counts."""
    sampling = SamplingParams(temperature=0, repetition_penalty=PENALTY)
    return Sampler(sampling, list(prompt), vlm.manifest.text.vocab_size)


class RecordingDecoder:
    """A decoder that records the logits of sampled positions."""

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


def run_uncached(vlm: VLM, request: Request, chunk: int = 512) -> tuple[list[int], np.ndarray]:
    """Return the tokens, and the logits after the prompt and after every token but the last, from an empty cache."""
    recorder = RecordingDecoder(vlm.engine.decoder)
    engine = Engine(recorder, vlm.engine.encoder, b"", SchedulerConfig(prefill_tokens=chunk))
    plain = dataclasses.replace(request, sampler=greedy_sampler(vlm, request.ids.tolist()), prompt_lookup=False)
    try:
        tokens = list(engine.submit(plain))
    finally:
        engine.close()
    assert engine.pool.free == recorder.blocks, "blocks leak"
    return tokens, np.stack(recorder.logits[-len(tokens) :])


@pytest.mark.parametrize("scene", SCENES)
def test_greedy_tokens_and_logits_equal_transformers(vlm: VLM, reference: Reference, scene: str) -> None:
    """Cover preprocessing, vision, DeepStack, positions and cache: logits within 1e-4 of the reference's scale at every
    step, 64 greedy tokens identical.
    """
    images = [image(*size) for size in SCENES[scene]]
    request = greedy_request(vlm, images)
    tokens, logits = run_uncached(vlm, request)
    assert tokens == reference.greedy(request, images, vlm.manifest.text.vocab_size, PENALTY)
    expected = reference.logits([*request.ids, *tokens], images)[len(request.ids) - 1 : -1]
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
    assert len(set(tokens)) > 8, "the model repeats itself: the comparison proves little"


@pytest.mark.parametrize("scene", ["odd", "two", "text"])
@pytest.mark.parametrize("chunk", [1, 64])
def test_chunked_prefill_equals_one_prefill(vlm: VLM, scene: str, chunk: int) -> None:
    """Chunk borders may fall inside an image."""
    request = greedy_request(vlm, [image(*size) for size in SCENES[scene]], max_tokens=12)
    tokens, logits = run_uncached(vlm, request)
    chunked_tokens, chunked_logits = run_uncached(vlm, request, chunk)
    assert chunked_tokens == tokens
    np.testing.assert_allclose(chunked_logits, logits, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize("scene", ["odd", "two", "text"])
def test_each_decode_step_equals_a_prefill_of_the_same_tokens(vlm: VLM, scene: str) -> None:
    request = greedy_request(vlm, [image(*size) for size in SCENES[scene]], max_tokens=6)
    tokens, logits = run_uncached(vlm, request)
    for step in range(1, 6):
        following = int(request.positions.max()) + 1 + np.arange(step)
        longer = dataclasses.replace(
            request,
            ids=np.concatenate([request.ids, tokens[:step]]),
            positions=np.concatenate([request.positions, np.tile(following, (3, 1))], axis=1),
            max_tokens=1,
        )
        _, uncached = run_uncached(vlm, longer)
        np.testing.assert_allclose(uncached[0], logits[step], atol=1e-4 * np.abs(logits).max())


def test_concurrent_requests_get_the_tokens_of_single_requests(vlm: VLM) -> None:
    """Also when the second round reads its prompts from the prefix cache."""
    requests = [greedy_request(vlm, [image(*size) for size in SCENES[scene]], max_tokens=20) for scene in SCENES]
    alone = [run_uncached(vlm, request)[0] for request in requests]
    for _ in range(2):
        fresh = [dataclasses.replace(r, sampler=greedy_sampler(vlm, r.ids.tolist())) for r in requests]
        streams = [vlm.engine.submit(request) for request in fresh]
        assert [list(stream) for stream in streams] == alone
    assert all(s.metrics.cached_tokens > 32 for s, r in zip(streams, requests, strict=True) if len(r.ids) > 96)


def test_one_changed_pixel_misses_the_cache(vlm: VLM, tmp_path: Path) -> None:
    """Guards against a cache keyed by path: the file is overwritten under the same name and size."""
    path = tmp_path / "snap.png"
    snap = image(160, 96)
    counts = []
    for value in (0, 0, 1):
        snap.putpixel((3, 3), (value, 0, 0))
        snap.save(path)
        counts.append(vlm.ask(path, QUESTION, Options(max_tokens=2)).usage.cached_tokens)
    again = vlm.ask(path, QUESTION, Options(max_tokens=2)).usage.cached_tokens
    assert counts[0] == counts[2] == 0
    assert counts[1] == again > 0


@pytest.mark.parametrize("group_size", [0, 128])
def test_eight_bit_cache_does_not_depend_on_write_history(small_model: Path, group_size: int) -> None:
    """With scales per channel of a block (the plugin's default), rejected guesses and shared blocks leave traces in the
    keys.
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


def test_scored_answers_are_not_truncated(vlm: VLM) -> None:
    """Guards against applying limits for generated answers (length, repetition) to scored ones."""
    assert len(vlm.score([], "Hi", "a" * 300)) == 301
    with pytest.raises(ContextLengthExceeded, match="the context is 4096"):
        vlm.score([], "Hi", "a " * 5000)


def test_impossible_cache_sizes_are_refused(tied_model: Path) -> None:
    with pytest.raises(OptionError, match="allows at most 4096"):
        load(tied_model, cache=CacheConfig(context=5000))
    with pytest.raises(OptionError, match="kv_memory is 1,099,511,627,776 MiB, but"):
        load(tied_model, cache=CacheConfig(kv_memory=2**60))


def test_closing_ends_the_threads_and_refuses_questions(tied_model: Path) -> None:
    before = set(threading.enumerate())
    with load(tied_model, hints=EXACT) as vlm:
        assert vlm.ask([], "Hi", Options(max_tokens=3)).usage.completion_tokens
        assert set(threading.enumerate()) - before
    assert not set(threading.enumerate()) - before
    with pytest.raises(EngineClosed):
        vlm.ask([], "Hi")


def test_batched_steps_equal_single_steps(vlm: VLM) -> None:
    """Sequences of different lengths, with different numbers of logit rows."""
    decoder = vlm.engine.decoder
    requests = [greedy_request(vlm, [image(*size)]) for size in ((133, 97), (96, 320))]
    steps = []
    for number, request in enumerate(requests):
        blocks = list(range(number * 40, number * 40 + 40))
        (placed,) = request.images
        features = vlm.engine.encoder.submit(placed.source, threading.Event()).features.result()
        images = (PlacedFeatures(placed.start, features),)
        steps.append(SequenceStep(request.ids, request.positions, 0, blocks, images, rows=1 + number * 2))
    together = [output.logits for output in decoder.forward(steps, never)]
    alone = [decoder.forward([step], never)[0].logits for step in steps]
    assert [rows.shape for rows in together] == [rows.shape for rows in alone]
    assert [len(rows) for rows in together] == [1, 3]
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    vlm.engine.pool.evict_all()  # the pool does not know that these blocks were overwritten


def never() -> bool:
    return False


def test_a_closed_stream_frees_its_blocks(vlm: VLM) -> None:
    chunks = vlm.stream(image(133, 97), QUESTION, Options(temperature=0))
    next(chunks)
    assert vlm.engine.pool.free < vlm.engine.pool.blocks
    chunks.close()
    assert all_blocks_free(vlm)


def test_stream_and_ask_give_the_same_answer(vlm: VLM) -> None:
    options = Options(max_tokens=30, temperature=0.8, seed=5)
    chunks = list(vlm.stream(image(133, 97), QUESTION, options))
    answer = vlm.ask(image(133, 97), QUESTION, options)
    assert chunks[-1].answer is not None
    assert "".join(chunk.text for chunk in chunks) == answer.text == chunks[-1].answer.text
    assert answer.usage.completion_tokens <= 30
    assert answer.usage.image_tokens < answer.usage.prompt_tokens
    assert answer.timings.ttft >= answer.timings.vision + answer.timings.prefill
    assert chunks[-1].answer.usage.forward_passes <= chunks[-1].answer.usage.completion_tokens


def test_a_text_is_continued_without_the_chat_template(vlm: VLM) -> None:
    """Clients of OpenAI's former endpoint write the template themselves, with the names of control tokens."""
    greedy, turns = Options(temperature=0, max_tokens=16), [user_turn([], QUESTION)]
    rendered = vlm.template.render([Message("user", (QUESTION,))])
    *_, chat = vlm.chat(turns, greedy)
    *_, raw = vlm.complete(rendered, greedy, Cancellation())
    assert chat.answer is not None
    assert raw.answer is not None
    assert (raw.answer.text, raw.answer.tokens) == (chat.answer.text, chat.answer.tokens)
    assert raw.answer.usage.prompt_tokens == chat.answer.usage.prompt_tokens
    for text in ("", "<|image_pad|>", "a" * 3_000_000):
        with pytest.raises(OptionError, match="prompt"):
            vlm.complete(text, greedy, Cancellation())


def test_notes_come_before_the_model_runs(vlm: VLM) -> None:
    """Guards against a note about reduced detail that came after an answer of minutes."""
    given = open_image(image(224, 128))
    noted = derive_image(given, given.rgb, given.to_original.matrix, ("the image was rotated",))
    before = vlm.image_encoder.seconds
    stream = vlm.stream(noted, QUESTION, Options(max_tokens=2))
    assert next(stream) == Chunk("", notes=("the image was rotated",))
    assert vlm.image_encoder.seconds == before
    *_, last = stream
    assert last.answer is not None
    assert last.answer.notes == ("the image was rotated",)
    assert not next(vlm.stream(given, QUESTION, Options(max_tokens=2))).notes


def test_a_limit_learned_at_slow_moments_is_told_with_the_way_out(tied_model: Path, tmp_path: Path) -> None:
    """Guards against a reduced detail that nobody can lift: detail "high" has no limit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        now = time.time()
        for hours in (3, 2, 1):
            patch.setattr("time.time", partial(float, now - 3600 * hours))
            record(ModelFolder(tied_model).fingerprint, str(EXACT), SpeedProfile({1024: 400.0}, prefill=1.0))
        patch.undo()
        patch.setattr("vlrun.perf.history.AUTO_STEPS", (2560, 512))  # this model takes at most 1,024
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        with load(tied_model, hints=EXACT, wait=False) as vlm:
            photo = open_image(image(2000, 1500))
            reduced = vlm.stream(photo, QUESTION, Options(max_tokens=1))
            (note,) = next(reduced).notes
            reduced.close()
            assert note.startswith("limited to 512 visual tokens per image")
            assert "--detail high" in note
            whole = vlm.chat([user_turn(photo, QUESTION)], Options(max_tokens=1, detail="high"))
            whole.close()
            assert 450 <= vlm.build_prompt([user_turn(photo, QUESTION)]).images[0][1].tokens <= 512


def test_prompts_beyond_the_context_are_refused_and_answers_end_at_it(tied_model: Path) -> None:
    vlm = load(tied_model, hints=EXACT, cache=CacheConfig(context=64))
    with pytest.raises(ContextLengthExceeded, match=r"the images have \d+ tokens, but the context is 64"):
        vlm.stream([image(320, 200)] * 2, QUESTION)
    answer = vlm.ask([], "Hi", Options(temperature=0))
    assert answer.finish_reason in ("length", "stop")
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens <= 64


def test_stop_string_ends_the_answer(vlm: VLM) -> None:
    options = Options(max_tokens=60, temperature=0)
    whole = vlm.ask(image(133, 97), QUESTION, options).text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    answer = vlm.ask(image(133, 97), QUESTION, dataclasses.replace(options, stop=(stop,)))
    assert answer.text == whole[: whole.find(stop)]
    assert (answer.finish_reason, answer.stop) == ("stop", stop)


@pytest.fixture(autouse=True)
def all_blocks_are_free_after_each_test(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "vlm" in request.fixturenames:
        vlm: VLM = request.getfixturevalue("vlm")
        assert all_blocks_free(vlm)


def all_blocks_free(vlm: VLM) -> bool:
    """Whether all blocks become free within 10 s."""
    until = time.monotonic() + 10
    while vlm.engine.pool.free < vlm.engine.pool.blocks and time.monotonic() < until:
        time.sleep(0.005)
    return vlm.engine.pool.free == vlm.engine.pool.blocks
