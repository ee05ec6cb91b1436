"""Recording queries and keys: every cache layout, and no effect on the logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openvino as ov
import pytest
from openvino import opset13

from tests.paths import EXAMPLES
from vlrun import Hints, Options, load
from vlrun.backends.openvino import attention_recorder
from vlrun.backends.openvino import decoder as decoders
from vlrun.backends.openvino.attention_recorder import recorded_layers
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import open_device
from vlrun.backends.openvino.key_layout import KeyLayout
from vlrun.embedded import FOLDER
from vlrun.engine.backend import SequenceStep
from vlrun.errors import OptionError
from vlrun.models.model_folder import ModelFolder
from vlrun.types.arrays import FloatArray

pytestmark = pytest.mark.slow

MODEL = ModelFolder(FOLDER)
DIMENSIONS = MODEL.manifest
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
    return OpenVINODecoder(open_device(hints), MODEL, DIMENSIONS.text, DIMENSIONS.vision.deepstack, 2**24, 256)


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
        vlm.ask([EXAMPLES / "shelf.png"], "Describe this image.", Options(heatmap=True))


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
