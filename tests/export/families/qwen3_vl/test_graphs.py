"""The exported graphs compared with transformers, and in the forms in which the runtime runs them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from vlrun import manifest
from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import open_device
from vlrun.backends.openvino.hints import Hints
from vlrun.engine.backend import PlacedFeatures, SequenceStep
from vlrun.manifest import Manifest
from vlrun.models.model_folder import ModelFolder
from vlrun.models.qwen3_vl.positions import token_positions
from vlrun.types.arrays import FloatArray
from vlrun.vision.features import ImageFeatures
from vlrun.vision.grid import Grid
from vlrun_export import exported_model
from vlrun_export.check import check_folder
from vlrun_export.checkpoint import open_checkpoint
from vlrun_export.families.qwen3_vl.check_prompt import CheckPrompt, make_check_prompt
from vlrun_export.families.qwen3_vl.decoder_graph import build_decoder
from vlrun_export.quantize import compress
from vlrun_export.quiet_libraries import quiet_libraries

EXACT = Hints(decoder_precision="f32", vision_precision="f32", kv_precision="f32", group_size=0)


@pytest.fixture(scope="module")
def prompt(small_model: Path) -> CheckPrompt:
    described = manifest.read(small_model)
    return make_check_prompt(small_model, described.vision, described.tokens, described.preprocessing)


@pytest.fixture(scope="module")
def features(small_model: Path, prompt: CheckPrompt) -> FloatArray:
    return exported_model.run_vision(small_model / "vision.xml", prompt, manifest.read(small_model).vision)


def test_fp32_equals_transformers(small_checkpoint: Path, small_model: Path) -> None:
    """Features, DeepStack rows and logits are within 1e-5 of the reference's scale, and every top-1 token agrees."""
    results = check_folder(open_checkpoint(small_checkpoint), small_model, manifest.read(small_model))
    assert all(result.passed for result in results), results
    assert max(result.value for result in results if "error" in result.name) < 1e-5
    assert [result.value for result in results if "top-1" in result.name] == [1.0]


def test_the_layer_by_layer_reference_equals_from_pretrained(
    small_checkpoint: Path, small_model: Path, prompt: CheckPrompt
) -> None:
    from vlrun_export.families.qwen3_vl.reference import model_inputs, run_reference

    streamed = run_reference(open_checkpoint(small_checkpoint), prompt.ids, prompt.patches, prompt.grid)
    model = Qwen3VLForConditionalGeneration.from_pretrained(small_checkpoint, dtype=torch.float32).eval()
    with torch.inference_mode():
        full = model(**model_inputs(model, prompt.ids, prompt.patches, prompt.grid))
    np.testing.assert_allclose(streamed.logits, full.logits[0].numpy(), atol=1e-5)


def test_batched_chunked_prefill_equals_one_pass(small_model: Path, prompt: CheckPrompt, features: FloatArray) -> None:
    opened = ModelFolder(small_model)
    described = opened.manifest
    decoder = OpenVINODecoder(open_device(EXACT), opened, described.text, described.vision.deepstack, 2**30, 256)
    text_ids = np.roll(prompt.ids, 7)
    text_ids[text_ids == described.tokens.image] = 5
    expected_logits = [
        exported_model.run_decoder(small_model / "decoder.xml", prompt, features),
        logits_without_image(small_model, text_ids),
    ]
    blocks = math.ceil(len(text_ids) / decoder.block_size)
    past = 0
    for size in (20, 30, 10, 1, 3):
        steps = [
            make_step(prompt.ids, [(prompt.start, prompt.grid)], past, size, range(blocks), prompt, features),
            make_step(text_ids, [], past, size, range(blocks, 2 * blocks), None, features),
        ]
        past += size
        for output, expected in zip(decoder.forward(steps, never), expected_logits, strict=True):
            assert np.abs(output.logits[0] - expected[past - 1]).max() < 1e-5 * np.abs(expected).max()


def never() -> bool:
    return False


def make_step(
    ids: np.ndarray,
    images: list[tuple[int, Grid]],
    past: int,
    size: int,
    blocks: range,
    prompt: CheckPrompt | None,
    features: FloatArray,
) -> SequenceStep:
    positions = token_positions(len(ids), images)[:, past : past + size]
    visuals = []
    if prompt is not None:
        first = max(prompt.visual.start, past)
        last = min(prompt.visual.stop, past + size)
        if first < last:
            rows = features[:, first - prompt.visual.start : last - prompt.visual.start]
            visuals.append(PlacedFeatures(first - past, ImageFeatures(rows)))
    return SequenceStep(ids[past : past + size], positions, past, list(blocks), tuple(visuals))


def logits_without_image(folder: Path, ids: np.ndarray) -> FloatArray:
    """Return the logits of a prompt without an image, from the stateful form."""
    described = manifest.read(folder)
    empty = CheckPrompt(ids, np.zeros((0, 0), np.float32), Grid(0, 0, 1), start=0)
    nothing = np.zeros((1 + described.vision.deepstack, 0, described.text.hidden), np.float32)
    return exported_model.run_decoder(folder / "decoder.xml", empty, nothing)


def test_logits_are_computed_only_for_requested_rows(small_model: Path) -> None:
    model = ov.Core().read_model(small_model / "decoder.xml")
    described = manifest.read(small_model)
    request = ov.compile_model(model, "CPU", exported_model.PROPERTIES).create_infer_request()
    inputs = {
        "input_ids": np.arange(8)[None],
        "position_ids": np.broadcast_to(np.arange(8), (3, 1, 8)),
        "attention_mask": np.ones((1, 8), np.int64),
        "visual_features": np.zeros((1 + described.vision.deepstack, 1, 8, described.text.hidden), np.float32),
        "visual_mask": np.zeros((1, 8, 1), np.float32),
        "beam_idx": np.zeros(1, np.int32),
    }
    all_logits = np.array(request.infer({**inputs, "logit_rows": np.arange(8)})["logits"])
    request.reset_state()
    requested = np.array(request.infer({**inputs, "logit_rows": np.array([6, 2])})["logits"])
    assert requested.shape == (2, described.text.vocab_rows)
    np.testing.assert_allclose(requested, all_logits[[6, 2]], atol=1e-5)


def test_the_tied_matrix_is_stored_once(
    tied_model: Path, untied_model: Path, int8_export: tuple[Path, Manifest]
) -> None:
    for folder, expected in ((tied_model, 1), (untied_model, 2), (int8_export[0], 1)):
        described = manifest.read(folder)
        shape = [described.text.vocab_rows, described.text.hidden]
        model = ov.Core().read_model(folder / "decoder.xml")
        constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
        assert sum(list(op.get_output_shape(0)) == shape for op in constants) == expected


def matrices_of(model: ov.Model) -> list[ov.Node]:
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    return [op for op in constants if len(op.get_output_shape(0)) == 2 and min(op.get_output_shape(0)) > 1]


def test_traced_matrices_stay_bfloat16_and_all_become_int8(untied_checkpoint: Path) -> None:
    """Guards the memory of an export, and a matrix that stays large: the head is one of its own."""
    with quiet_libraries():
        traced = build_decoder(open_checkpoint(untied_checkpoint), None)
    matrices = matrices_of(traced.model)
    assert len(matrices) >= 7 * 4 + 2
    assert {op.get_element_type() for op in matrices} == {ov.Type.bf16}
    with quiet_libraries():
        compress(traced.model, "int8", 0)
    assert {op.get_element_type() for op in matrices_of(traced.model)} == {ov.Type.u8}


def test_positions_beyond_100000_are_as_accurate_in_bfloat16(small_model: Path, prompt: CheckPrompt) -> None:
    """In bfloat16, the position 100,003 would become 99,840."""
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU does not compute in bfloat16")
    near, far = (bf16_logits(small_model, prompt.ids, offset) for offset in (0, 100_003))
    exact = logits_without_image(small_model, prompt.ids)
    noise = np.abs(near - exact).mean()
    assert np.abs(far - exact).mean() < 1.5 * noise


def bf16_logits(folder: Path, ids: np.ndarray, offset: int) -> np.ndarray:
    described = manifest.read(folder)
    hints = Hints(decoder_precision="bf16", kv_precision="bf16")
    decoder = OpenVINODecoder(
        open_device(hints), ModelFolder(folder), described.text, described.vision.deepstack, 2**30, 256
    )
    positions = token_positions(len(ids), []) + offset
    blocks = list(range(math.ceil(len(ids) / decoder.block_size)))
    rows = []
    for index in range(len(ids)):
        step = SequenceStep(ids[index : index + 1], positions[:, index : index + 1], index, blocks)
        rows.append(decoder.forward([step], never)[0].logits[0])
    return np.stack(rows)


def test_small_constants_are_shared(small_model: Path) -> None:
    """Compile time grows with the number of nodes, and a trace repeats its axes in every layer."""
    constants = [
        node for node in ov.Core().read_model(small_model / "decoder.xml").get_ops() if is_small_constant(node)
    ]
    contents = {
        (str(node.get_element_type()), str(node.get_output_shape(0)), node.data.tobytes()) for node in constants
    }
    assert len(contents) == len(constants)


def is_small_constant(node: ov.Node) -> bool:
    return node.get_type_name() == "Constant" and node.get_byte_size() <= 64
