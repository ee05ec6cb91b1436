"""What an answer looked at: keys out of every cache layout, attention against transformers, heat where the thing is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13
from PIL import Image

from tests.paths import EXAMPLES
from tests.runtime.engine.requests import GreedySampler
from vlrun import VLM, Hints, Options, load, manifest
from vlrun.backends.openvino import attention_recorder
from vlrun.backends.openvino import decoder as decoders
from vlrun.backends.openvino.attention_recorder import recorded_layers
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import open_device
from vlrun.backends.openvino.key_layout import KeyLayout
from vlrun.embedded import FOLDER
from vlrun.engine.backend import AttentionTrace, SequenceStep
from vlrun.engine.request import Request
from vlrun.errors import OptionError
from vlrun.heatmap.attention import attention, heat_maps
from vlrun.media.image import ImageSource
from vlrun.prompt.builder import user_turn
from vlrun.types.arrays import FloatArray
from vlrun.vision.grid import Grid

pytestmark = pytest.mark.slow

EXACT = Hints(decoder_precision="f32", vision_precision="f32", kv_precision="f32", group_size=0)
DIMENSIONS = manifest.read(FOLDER)
TOKENS = 45


@dataclass(frozen=True)
class ByChannel(Hints):
    """The CPU plugin's own way with 8-bit keys."""

    def decoder_config(self) -> dict[str, str]:
        return {**super().decoder_config(), "KEY_CACHE_QUANT_MODE": "BY_CHANNEL"}


LAYOUTS = {
    "by token": (Hints(), KeyLayout("u8", 2, 32, 64)),
    "by channel": (ByChannel(), KeyLayout("u8", 2, 32, 64, by_channel=True)),
    "f16": (Hints(kv_precision="f16"), KeyLayout("f16", 2, 32, 64)),
    "f32": (Hints(kv_precision="f32"), KeyLayout("f32", 2, 32, 64)),
}


def embedded(hints: Hints) -> OpenVINODecoder:
    """The decoder alone."""
    return OpenVINODecoder(open_device(hints), FOLDER, DIMENSIONS.text, DIMENSIONS.vision.deepstack, 2**24, 256)


def add_key_output(model: ov.Model, *_: object) -> tuple[int, ...]:
    """Output the keys that attention is about to write, in place of the queries."""
    layers = (1, 3)
    nodes = [node for node in model.get_ops() if node.get_type_name() == "PagedAttentionExtension"]
    by_cache = {name: node for node in nodes for name in node.input_value(3).get_names()}
    keys = [by_cache[f"key_cache.{layer}"].input_value(1) for layer in layers]
    output = opset13.concat([opset13.gather(key, model.input("logit_rows"), np.int64(0)) for key in keys], axis=1)
    output.output(0).set_names({attention_recorder.QUERIES})
    model.add_outputs([output.output(0)])
    return layers


@pytest.mark.parametrize("name", LAYOUTS)
def test_keys_are_read_as_they_were_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the layout of the cache, against the keys themselves as an output: every number within half a step of its
    scale, in a block that is full and in one that is not.
    """
    hints, layout = LAYOUTS[name]
    monkeypatch.setattr(decoders, "add_query_output", add_key_output)
    decoder = embedded(hints)
    assert decoder.recorder
    assert decoder.recorder.layouts == [layout, layout]
    ids, positions = np.arange(TOKENS), np.tile(np.arange(TOKENS), (3, 1))
    step = SequenceStep(ids, positions, 0, [3, 1], rows=TOKENS, record_queries=True)
    (output,) = decoder.forward([step], lambda: False)
    keys = decoder.recorder.read_keys([3, 1, 2], TOKENS)
    assert output.queries is not None
    expected = output.queries.transpose(1, 0, 2, 3)
    assert keys.shape == expected.shape == (2, TOKENS, 2, 64)
    assert np.abs(expected[0] - expected[1]).max() > 1
    np.testing.assert_allclose(keys, expected, atol=half_step(name, expected))


def half_step(name: str, keys: FloatArray) -> float:
    """How far a stored key may be from the true one."""
    if name in ("f16", "f32"):
        return float(np.abs(keys).max()) * {"f16": 2**-11, "f32": 0}[name]
    parts = [keys] if name == "by token" else [keys[:, :32], keys[:, 32:]]
    axis = -1 if name == "by token" else 1
    return max(float(np.ptp(part, axis).max()) for part in parts) / 255 * 0.51


def test_bfloat16_is_the_upper_half() -> None:
    """Guards a layout that not every CPU can be asked for."""
    keys = np.random.default_rng(0).standard_normal((2, 3, 4, 8)).astype(np.float32)
    cells = (keys.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(2, -1)
    read = KeyLayout("bf16", 3, 4, 8).read(cells)
    assert read.shape == (8, 3, 8)
    np.testing.assert_allclose(read.reshape(2, 4, 3, 8).transpose(0, 2, 1, 3), keys, rtol=2**-7)


def test_layers_in_the_middle() -> None:
    """Guards the choice: in the embedded model the layer that was trained to look."""
    assert recorded_layers(5) == (2,)
    assert recorded_layers(4) == (2,)
    assert recorded_layers(28) == (14, 15, 16)
    assert recorded_layers(1) == (0,)


def test_never_a_wrong_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards layouts that are not known, and graphs without attention of that name: refused in a sentence."""
    recorder = embedded(Hints(kv_precision="u4")).recorder
    assert recorder
    with pytest.raises(OptionError, match=r"heat maps need a KV cache .* this one is u4"):
        recorder.check()
    monkeypatch.setattr(attention_recorder, "recorded_layers", lambda layers: (layers,))
    with load() as vlm, pytest.raises(OptionError, match="heat maps need the device CPU"):
        vlm.ask([EXAMPLES / "shelf.png"], QUESTION, Options(heatmap=True))


def test_the_output_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the logits: bit-equal with the output, without it, and when somebody watches."""
    ids, positions = np.arange(TOKENS), np.tile(np.arange(TOKENS), (3, 1))

    def logits(decoder: OpenVINODecoder, record: bool) -> FloatArray:
        outputs = []
        for past, end in ((0, 40), (40, 41), (41, 45)):
            step = SequenceStep(ids[past:end], positions[:, past:end], past, [3, 1], record_queries=record)
            outputs += decoder.forward([step], lambda: False)
        queries = [output.queries.shape for output in outputs if output.queries is not None]
        assert queries == [(1, 1, 4, 64)] * 3 * record
        return np.concatenate([output.logits for output in outputs])

    decoder = embedded(Hints())
    watched, unwatched = logits(decoder, True), logits(decoder, False)
    monkeypatch.setattr(decoders, "add_query_output", lambda *_: ())
    plain = embedded(Hints())
    assert plain.recorder is None
    assert np.array_equal(watched, unwatched)
    assert np.array_equal(watched, logits(plain, False))


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load(hints=EXACT)


def request_for(vlm: VLM, images: Sequence[ImageSource], question: str, max_tokens: int = 40) -> Request:
    """What the engine gets for a question: greedy, watched."""
    prompt = vlm.build_prompt([user_turn(list(images), question)])
    return replace(vlm.build_request(prompt, GreedySampler(), max_tokens), record_attention=True)


def watch(vlm: VLM, request: Request) -> tuple[list[int], AttentionTrace]:
    """The tokens of an answer and what they looked at."""
    stream = vlm.engine.submit(request)
    tokens = list(stream)
    assert stream.attention
    assert len(stream.attention.queries) == len(tokens)
    return tokens, stream.attention


def near(ours: AttentionTrace, theirs: AttentionTrace) -> None:
    """As near as float16 and another order of sums allow."""
    for one, other in ((ours.queries, theirs.queries), (ours.keys, theirs.keys)):
        np.testing.assert_allclose(one, other, atol=2e-3 * np.abs(other).max())


def test_equals_transformers(small_model: Path, small_checkpoint: Path) -> None:
    """Guards the whole of it: norms, M-RoPE, shared keys, scale and layer, against the weights of eager attention."""
    from tests.runtime.reference import Reference

    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize((133, 97), Image.Resampling.BICUBIC)
    reference = Reference(small_checkpoint)
    reference.model.set_attn_implementation("eager")
    with load(small_model, hints=EXACT) as vlm:
        request = replace(request_for(vlm, [image], "How many?", 12), eos=frozenset())
        tokens, watched = watch(vlm, request)
    length = len(request.ids)
    inputs = reference.inputs([*request.ids, *tokens], [image])
    weights = reference.model(**inputs, output_attentions=True).attentions[2][0].detach().numpy()
    expected = weights[:, length - 1 : -1, :length].transpose(1, 0, 2)
    expected /= expected.sum(-1, keepdims=True)
    ours = attention(watched.queries[:, 0].astype(np.float32), watched.keys[0])
    assert ours.shape == (12, 4, length)
    np.testing.assert_allclose(ours, expected, atol=2e-3)
    assert np.abs(ours - expected.mean(0)).max() > 0.05, "all tokens look alike: the comparison would prove little"


QUESTION = "Describe this image."


def test_guesses_prefixes_and_neighbours_change_nothing(vlm: VLM) -> None:
    """Guards the rows: of several that ran at once those that were accepted, out of the cache, beside others."""
    shelf, word = EXAMPLES / "shelf.png", EXAMPLES / "word.png"
    requests = [request_for(vlm, images, QUESTION) for images in ([shelf], [word], [word, shelf], [])]
    vlm.engine.pool.evict_all()
    alone = [watch(vlm, replace(request, prompt_lookup=False)) for request in requests]
    for cached in (False, True):
        if not cached:
            vlm.engine.pool.evict_all()
        streams = [vlm.engine.submit(request) for request in requests]
        for stream, (tokens, watched) in zip(streams, alone, strict=True):
            assert list(stream) == tokens
            assert stream.attention
            near(stream.attention, watched)
    assert streams[0].metrics.cached_tokens


def test_accepted_guesses_only(vlm: VLM) -> None:
    """Guards prompt lookup where it guesses much: an answer that copies."""
    request = request_for(vlm, [], "aa bb cc dd aa bb cc dd aa bb cc dd", 60)
    copying = replace(request, eos=frozenset(), repetition_guard=False)
    plain, watched = watch(vlm, replace(copying, prompt_lookup=False))
    stream = vlm.engine.submit(copying)
    assert list(stream) == plain
    assert stream.metrics.forward_passes < len(plain), "nothing was guessed"
    assert stream.attention
    near(stream.attention, watched)


def test_one_who_leaves_early_knows_what_he_read(vlm: VLM) -> None:
    """Guards stop strings: the reader leaves, and has the maps of what he read."""
    stream = vlm.engine.submit(request_for(vlm, [EXAMPLES / "shelf.png"], QUESTION))
    for count, _ in enumerate(stream, 1):
        if count == 2:
            stream.close()
            break
    assert stream.attention
    assert len(stream.attention.queries) == 2


def test_nothing_is_kept_unasked(vlm: VLM) -> None:
    """Guards everyone else's answers: the same tokens and logits, and neither queries nor keys."""

    class Recording(GreedySampler):
        def __init__(self) -> None:
            self.rows: list[FloatArray] = []

        def sample(self, logits: FloatArray) -> int:
            self.rows.append(logits)
            return super().sample(logits)

    answers = []
    for watched in (False, True):
        chooser = Recording()
        vlm.engine.pool.evict_all()
        request = request_for(vlm, [EXAMPLES / "shelf.png"], QUESTION)
        stream = vlm.engine.submit(replace(request, sampler=chooser, record_attention=watched))
        answers.append((list(stream), np.stack(chooser.rows)))
        assert (stream.attention is not None, stream.prompt_keys is not None) == (watched,) * 2
    assert answers[0][0] == answers[1][0]
    assert np.array_equal(answers[0][1], answers[1][1])


def planted(count: int, rows: int, columns: int) -> tuple[AttentionTrace, FloatArray, FloatArray]:
    """Keys ``[1, 2 + N, 1, 8]`` of visual tokens behind a first token and before a last one, and queries of ``count``
    tokens: a thing in the middle is looked at; what a sink has, and what the thing has.
    """
    rng = np.random.default_rng(0)
    sink, thing = np.zeros(8, np.float32), np.zeros(8, np.float32)
    sink[[0, 4]], thing[[1, 5]] = 6, 6
    keys = rng.normal(0, 0.3, (1, 2 + rows * columns, 1, 8)).astype(np.float32)
    keys[0, 0, 0] += sink
    keys[0, 1 + rows // 2 * columns + columns // 2, 0] += thing
    queries = np.tile(sink + thing, (count, 1, 2, 1)).astype(np.float16)
    return AttentionTrace(queries, keys), sink, thing


def test_sinks_are_taken_out() -> None:
    """Guards visual tokens with the keys of the first token, in any turn: they have what their neighbours have, and the
    thing stays.
    """
    watched, sink, _ = planted(1, 6, 8)
    turned = np.zeros(8, np.float32)
    turned[0] = np.hypot(sink[0], sink[4])
    watched.keys[0, 1 + 0, 0] += sink
    watched.keys[0, 1 + 27, 0] += turned
    (looked,) = heat_maps(watched, 1, Grid(12, 16, 2))
    assert looked.shape == (6, 8)
    assert np.unravel_index(looked.argmax(), looked.shape) == (3, 4)
    assert max(looked[0, 0], looked[3, 3]) < 0.3 * looked.max()
    assert looked[0, 0] == pytest.approx(np.mean([looked[0, 1], looked[1, 0], looked[1, 1]]))


@pytest.mark.parametrize(("count", "rows", "removed"), [(10, 16, True), (4, 16, False), (10, 8, False)])
def test_corners_that_every_token_looks_at(count: int, rows: int, removed: bool) -> None:
    """Guards corners that draw attention by themselves, where answer and image are large enough to tell."""
    watched, _, thing = planted(count, rows, 20)
    watched.keys[0, 1 + 19, 0] += thing
    maps = heat_maps(watched, 1, Grid(2 * rows, 40, 2))
    assert (maps[:, 0, 19].max() < 0.1 * maps.max()) == removed
    assert (maps[:, rows // 2, 10] > 10 * np.median(maps)).all()


def test_heads_that_point_count_more() -> None:
    """Guards against blur: a head that sees all alike adds nothing."""
    watched, _, _ = planted(3, 6, 8)
    sharp = heat_maps(watched, 1, Grid(12, 16, 2))
    watched.queries[:, :, 1] = 0
    blurred = heat_maps(watched, 1, Grid(12, 16, 2))
    np.testing.assert_allclose(blurred * 2, sharp, atol=1e-3 * sharp.max())


def test_it_looks_at_what_it_speaks_of(vlm: VLM) -> None:
    """Guards the sense of it, on held-out shelves: asked for a colour, the answer's heat lies on the thing."""
    pytest.importorskip("vlrun_export", reason="draws its images")
    from training.scenes import HELD_OUT_SEED, draw_scene

    shares, hits, chances = [], [], []
    for number in range(30):
        scene = draw_scene("shelf", (288, 256), np.random.default_rng([HELD_OUT_SEED, number]))
        single = [item for item in scene.items if [other.kind for other in scene.items].count(item.kind) == 1]
        for item in single[:1]:
            request = request_for(vlm, [scene.image], f"What color is the {item.kind}?")
            _, watched = watch(vlm, request)
            looked = heat_maps(watched, request.images[0].span.start, grid_of(request))[0]
            inside = box_mask(item.box, *looked.shape)
            shares.append(looked[inside].sum() / looked.sum())
            hits.append(inside.flat[looked.argmax()])
            chances.append(inside.mean())
    assert len(hits) >= 10
    assert np.mean(hits) >= 0.9
    assert np.mean(shares) >= 2 * np.mean(chances)


def grid_of(request: Request) -> Grid:
    """Of the only image, from its positions."""
    span = request.images[0].span
    _, rows, columns = np.ptp(request.positions[:, span.start : span.start + span.tokens], axis=1) + 1
    return Grid(int(rows) * 2, int(columns) * 2, 2)


def box_mask(box: Sequence[float], rows: int, columns: int) -> np.ndarray:
    """Tokens whose middle lies in a box, or less than half a token beside it."""
    left, top, right, bottom = box
    y, x = np.arange(rows) + 0.5, np.arange(columns) + 0.5
    down = (y >= top * rows - 0.5) & (y <= bottom * rows + 0.5)
    across = (x >= left * columns - 0.5) & (x <= right * columns + 0.5)
    return np.outer(down, across)
