"""Attention of an answer's tokens to the image, compared with transformers, and heat maps computed from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.paths import EXAMPLES
from tests.runtime.engine.requests import GreedySampler
from vlrun import VLM, Hints, load
from vlrun.engine.backend import AttentionTrace
from vlrun.engine.request import Request
from vlrun.heatmap.attention import attention, heat_maps
from vlrun.media.image import ImageSource
from vlrun.prompt.builder import user_turn
from vlrun.types.arrays import FloatArray
from vlrun.vision.grid import Grid

pytestmark = pytest.mark.slow

EXACT = Hints(decoder_precision="f32", vision_precision="f32", kv_precision="f32", group_size=0)


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
    question = "Copy this text:\nThe red can is on the shelf. The blue bag is on the shelf."
    request = recorded_request(vlm, [], question, 60)
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
