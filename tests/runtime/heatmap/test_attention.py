"""Attention heat maps: keys read from every cache layout, attention compared with transformers."""

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
class ByChannelHints(Hints):
    """Quantize keys by channel, the CPU plugin's default."""

    def decoder_config(self) -> dict[str, str]:
        return {**super().decoder_config(), "KEY_CACHE_QUANT_MODE": "BY_CHANNEL"}


LAYOUTS = {
    "by token": (Hints(), KeyLayout("u8", 2, 32, 64)),
    "by channel": (ByChannelHints(), KeyLayout("u8", 2, 32, 64, by_channel=True)),
    "f16": (Hints(kv_precision="f16"), KeyLayout("f16", 2, 32, 64)),
    "f32": (Hints(kv_precision="f32"), KeyLayout("f32", 2, 32, 64)),
}


def load_decoder(hints: Hints) -> OpenVINODecoder:
    """Load the embedded decoder alone."""
    return OpenVINODecoder(open_device(hints), FOLDER, DIMENSIONS.text, DIMENSIONS.vision.deepstack, 2**24, 256)


def add_key_output(model: ov.Model, *_: object) -> tuple[int, ...]:
    """Output the keys that are written to the cache, in place of the queries."""
    layers = (1, 3)
    nodes = [node for node in model.get_ops() if node.get_type_name() == "PagedAttentionExtension"]
    by_cache = {name: node for node in nodes for name in node.input_value(3).get_names()}
    keys = [by_cache[f"key_cache.{layer}"].input_value(1) for layer in layers]
    output = opset13.concat([opset13.gather(key, model.input("logit_rows"), np.int64(0)) for key in keys], axis=1)
    output.output(0).set_names({attention_recorder.QUERIES})
    model.add_outputs([output.output(0)])
    return layers


@pytest.mark.parametrize("name", LAYOUTS)
def test_keys_read_from_the_cache_equal_the_written_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number is within half a quantization step, in a full block and in a partial one."""
    hints, layout = LAYOUTS[name]
    monkeypatch.setattr(decoders, "add_query_output", add_key_output)
    decoder = load_decoder(hints)
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
    """Return the largest rounding error of a stored key."""
    if name in ("f16", "f32"):
        return float(np.abs(keys).max()) * {"f16": 2**-11, "f32": 0}[name]
    parts = [keys] if name == "by token" else [keys[:, :32], keys[:, 32:]]
    axis = -1 if name == "by token" else 1
    return max(float(np.ptp(part, axis).max()) for part in parts) / 255 * 0.51


def test_bfloat16_keys_are_the_upper_half_of_float32() -> None:
    """Not every CPU supports this layout."""
    keys = np.random.default_rng(0).standard_normal((2, 3, 4, 8)).astype(np.float32)
    cells = (keys.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(2, -1)
    read = KeyLayout("bf16", 3, 4, 8).read(cells)
    assert read.shape == (8, 3, 8)
    np.testing.assert_allclose(read.reshape(2, 4, 3, 8).transpose(0, 2, 1, 3), keys, rtol=2**-7)


def test_the_middle_layers_are_recorded() -> None:
    """The embedded model's middle layer was trained with attention targets."""
    assert recorded_layers(5) == (2,)
    assert recorded_layers(4) == (2,)
    assert recorded_layers(28) == (14, 15, 16)
    assert recorded_layers(1) == (0,)


def test_unknown_layouts_and_graphs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a heat map of wrong data."""
    recorder = load_decoder(Hints(kv_precision="u4")).recorder
    assert recorder
    with pytest.raises(OptionError, match=r"heat maps need a KV cache .* this one is u4"):
        recorder.check()
    monkeypatch.setattr(attention_recorder, "recorded_layers", lambda layers: (layers,))
    with load() as vlm, pytest.raises(OptionError, match="heat maps need the device CPU"):
        vlm.ask([EXAMPLES / "shelf.png"], QUESTION, Options(heatmap=True))


def test_recording_does_not_change_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit-equal with the recorder in use, unused and absent."""
    ids, positions = np.arange(TOKENS), np.tile(np.arange(TOKENS), (3, 1))

    def logits(decoder: OpenVINODecoder, record: bool) -> FloatArray:
        outputs = []
        for past, end in ((0, 40), (40, 41), (41, 45)):
            step = SequenceStep(ids[past:end], positions[:, past:end], past, [3, 1], record_queries=record)
            outputs += decoder.forward([step], lambda: False)
        queries = [output.queries.shape for output in outputs if output.queries is not None]
        assert queries == [(1, 1, 4, 64)] * 3 * record
        return np.concatenate([output.logits for output in outputs])

    decoder = load_decoder(Hints())
    recorded, unused = logits(decoder, True), logits(decoder, False)
    monkeypatch.setattr(decoders, "add_query_output", lambda *_: ())
    without_recorder = load_decoder(Hints())
    assert without_recorder.recorder is None
    assert np.array_equal(recorded, unused)
    assert np.array_equal(recorded, logits(without_recorder, False))


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load(hints=EXACT)


def recorded_request(vlm: VLM, images: Sequence[ImageSource], question: str, max_tokens: int = 40) -> Request:
    """Build a greedy request that records attention."""
    prompt = vlm.build_prompt([user_turn(list(images), question)])
    return replace(vlm.build_request(prompt, GreedySampler(), max_tokens), record_attention=True)


def run_recorded(vlm: VLM, request: Request) -> tuple[list[int], AttentionTrace]:
    """Return the tokens of an answer and their attention trace."""
    stream = vlm.engine.submit(request)
    tokens = list(stream)
    assert stream.attention
    assert len(stream.attention.queries) == len(tokens)
    return tokens, stream.attention


def assert_close(actual: AttentionTrace, expected: AttentionTrace) -> None:
    """Allow for float16 and another order of additions."""
    for one, other in ((actual.queries, expected.queries), (actual.keys, expected.keys)):
        np.testing.assert_allclose(one, other, atol=2e-3 * np.abs(other).max())


def test_attention_equals_that_of_transformers(small_model: Path, small_checkpoint: Path) -> None:
    """Covers norms, M-RoPE, grouped keys, scale and layer, against eager attention."""
    from tests.runtime.reference import Reference

    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize((133, 97), Image.Resampling.BICUBIC)
    reference = Reference(small_checkpoint)
    reference.model.set_attn_implementation("eager")
    with load(small_model, hints=EXACT) as vlm:
        request = replace(recorded_request(vlm, [image], "How many?", 12), eos=frozenset())
        tokens, trace = run_recorded(vlm, request)
    length = len(request.ids)
    inputs = reference.inputs([*request.ids, *tokens], [image])
    weights = reference.model(**inputs, output_attentions=True).attentions[2][0].detach().numpy()
    expected = weights[:, length - 1 : -1, :length].transpose(1, 0, 2)
    expected /= expected.sum(-1, keepdims=True)
    ours = attention(trace.queries[:, 0].astype(np.float32), trace.keys[0])
    assert ours.shape == (12, 4, length)
    np.testing.assert_allclose(ours, expected, atol=2e-3)
    assert np.abs(ours - expected.mean(0)).max() > 0.05, "all tokens have the same attention"


QUESTION = "Describe this image."


def test_batching_guesses_and_cached_prefixes_do_not_change_the_attention(vlm: VLM) -> None:
    """Only rows of accepted tokens are recorded."""
    shelf, word = EXAMPLES / "shelf.png", EXAMPLES / "word.png"
    requests = [recorded_request(vlm, images, QUESTION) for images in ([shelf], [word], [word, shelf], [])]
    vlm.engine.pool.evict_all()
    alone = [run_recorded(vlm, replace(request, prompt_lookup=False)) for request in requests]
    for cached in (False, True):
        if not cached:
            vlm.engine.pool.evict_all()
        streams = [vlm.engine.submit(request) for request in requests]
        for stream, (tokens, trace) in zip(streams, alone, strict=True):
            assert list(stream) == tokens
            assert stream.attention
            assert_close(stream.attention, trace)
    assert streams[0].metrics.cached_tokens


def test_rejected_guesses_are_not_recorded(vlm: VLM) -> None:
    """The answer copies the prompt, so that prompt lookup guesses often."""
    request = recorded_request(vlm, [], "aa bb cc dd aa bb cc dd aa bb cc dd", 60)
    copy_request = replace(request, eos=frozenset(), repetition_guard=False)
    plain, trace = run_recorded(vlm, replace(copy_request, prompt_lookup=False))
    stream = vlm.engine.submit(copy_request)
    assert list(stream) == plain
    assert stream.metrics.forward_passes < len(plain), "prompt lookup guessed nothing"
    assert stream.attention
    assert_close(stream.attention, trace)


def test_a_closed_stream_has_the_attention_of_its_tokens(vlm: VLM) -> None:
    """Stop strings close the stream early."""
    stream = vlm.engine.submit(recorded_request(vlm, [EXAMPLES / "shelf.png"], QUESTION))
    for count, _ in enumerate(stream, 1):
        if count == 2:
            stream.close()
            break
    assert stream.attention
    assert len(stream.attention.queries) == 2


def test_requests_without_recording_keep_neither_queries_nor_keys(vlm: VLM) -> None:
    """Tokens and logits are equal with and without recording."""

    class RecordingSampler(GreedySampler):
        def __init__(self) -> None:
            self.rows: list[FloatArray] = []

        def sample(self, logits: FloatArray) -> int:
            self.rows.append(logits)
            return super().sample(logits)

    answers = []
    for record in (False, True):
        sampler = RecordingSampler()
        vlm.engine.pool.evict_all()
        request = recorded_request(vlm, [EXAMPLES / "shelf.png"], QUESTION)
        stream = vlm.engine.submit(replace(request, sampler=sampler, record_attention=record))
        answers.append((list(stream), np.stack(sampler.rows)))
        assert (stream.attention is not None, stream.prompt_keys is not None) == (record,) * 2
    assert answers[0][0] == answers[1][0]
    assert np.array_equal(answers[0][1], answers[1][1])


def synthetic_trace(count: int, rows: int, columns: int) -> tuple[AttentionTrace, FloatArray, FloatArray]:
    """Return a trace whose ``count`` queries look at a sink and at an item in the middle, and the key components of
    both. Keys are ``[1, 2 + N, 1, 8]``: a first token, N visual tokens, a last token.
    """
    rng = np.random.default_rng(0)
    sink, item = np.zeros(8, np.float32), np.zeros(8, np.float32)
    sink[[0, 4]], item[[1, 5]] = 6, 6
    keys = rng.normal(0, 0.3, (1, 2 + rows * columns, 1, 8)).astype(np.float32)
    keys[0, 0, 0] += sink
    keys[0, 1 + rows // 2 * columns + columns // 2, 0] += item
    queries = np.tile(sink + item, (count, 1, 2, 1)).astype(np.float16)
    return AttentionTrace(queries, keys), sink, item


def test_attention_sinks_are_replaced_by_their_neighbours() -> None:
    """A sink is a visual token whose key resembles that of the first token, at any rotation."""
    trace, sink, _ = synthetic_trace(1, 6, 8)
    rotated = np.zeros(8, np.float32)
    rotated[0] = np.hypot(sink[0], sink[4])
    trace.keys[0, 1 + 0, 0] += sink
    trace.keys[0, 1 + 27, 0] += rotated
    (heat,) = heat_maps(trace, 1, Grid(12, 16, 2))
    assert heat.shape == (6, 8)
    assert np.unravel_index(heat.argmax(), heat.shape) == (3, 4)
    assert max(heat[0, 0], heat[3, 3]) < 0.3 * heat.max()
    assert heat[0, 0] == pytest.approx(np.mean([heat[0, 1], heat[1, 0], heat[1, 1]]))


@pytest.mark.parametrize(("count", "rows", "removed"), [(10, 16, True), (4, 16, False), (10, 8, False)])
def test_corners_with_attention_from_every_token_are_removed(count: int, rows: int, removed: bool) -> None:
    """Only if answer and image are large enough to tell."""
    trace, _, item = synthetic_trace(count, rows, 20)
    trace.keys[0, 1 + 19, 0] += item
    maps = heat_maps(trace, 1, Grid(2 * rows, 40, 2))
    assert (maps[:, 0, 19].max() < 0.1 * maps.max()) == removed
    assert (maps[:, rows // 2, 10] > 10 * np.median(maps)).all()


def test_uniform_heads_add_nothing() -> None:
    """Guards against blurred maps."""
    trace, _, _ = synthetic_trace(3, 6, 8)
    sharp = heat_maps(trace, 1, Grid(12, 16, 2))
    trace.queries[:, :, 1] = 0
    blurred = heat_maps(trace, 1, Grid(12, 16, 2))
    np.testing.assert_allclose(blurred * 2, sharp, atol=1e-3 * sharp.max())


def test_heat_lies_on_the_item_in_the_question(vlm: VLM) -> None:
    """On held-out scenes, asked for the colour of an item."""
    pytest.importorskip("vlrun_export", reason="draws scenes")
    from training.scenes import HELD_OUT_SEED, draw_scene

    shares, hits, chances = [], [], []
    for number in range(30):
        scene = draw_scene("shelf", (288, 256), np.random.default_rng([HELD_OUT_SEED, number]))
        unique = [item for item in scene.items if [other.kind for other in scene.items].count(item.kind) == 1]
        for item in unique[:1]:
            request = recorded_request(vlm, [scene.image], f"What color is the {item.kind}?")
            _, trace = run_recorded(vlm, request)
            heat = heat_maps(trace, request.images[0].span.start, image_grid(request))[0]
            inside = box_mask(item.box, *heat.shape)
            shares.append(heat[inside].sum() / heat.sum())
            hits.append(inside.flat[heat.argmax()])
            chances.append(inside.mean())
    assert len(hits) >= 10
    assert np.mean(hits) >= 0.9
    assert np.mean(shares) >= 2 * np.mean(chances)


def image_grid(request: Request) -> Grid:
    """Return the grid of the only image, from its positions."""
    span = request.images[0].span
    _, rows, columns = np.ptp(request.positions[:, span.start : span.start + span.tokens], axis=1) + 1
    return Grid(int(rows) * 2, int(columns) * 2, 2)


def box_mask(box: Sequence[float], rows: int, columns: int) -> np.ndarray:
    """Mask the tokens whose centre lies in a box, or less than half a token beside it."""
    left, top, right, bottom = box
    y, x = np.arange(rows) + 0.5, np.arange(columns) + 0.5
    down = (y >= top * rows - 0.5) & (y <= bottom * rows + 0.5)
    across = (x >= left * columns - 0.5) & (x <= right * columns + 0.5)
    return np.outer(down, across)
