"""INT8 and INT4 compression compared with NNCF's own, and its accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import nncf
import numpy as np
import openvino as ov
import pytest
import torch
from nncf.quantization.algorithms.weight_compression import algorithm
from openvino import opset13

from tests.exports import export
from vlrun import Options, load, manifest
from vlrun.manifest import Manifest
from vlrun_export import quantize
from vlrun_export.quiet_libraries import quiet_libraries

KINDS = [ov.Type.bf16, ov.Type.f16, ov.Type.f32]
"""Types of the weights of checkpoints."""


def matmul_model(rows: int, columns: int, kind: ov.Type = ov.Type.bf16) -> ov.Model:
    """Build ``x @ W.T`` with random weights of bfloat16 precision, one row zero and one row 100 times larger."""
    weights = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    weights[3] = 0
    weights[5] *= 100
    constant = ov.op.Constant(kind, ov.Shape([rows, columns]), weights.float().flatten().tolist())
    activations = opset13.parameter([-1, columns], dtype=ov.Type.f32)
    matrix = constant if kind == ov.Type.f32 else opset13.convert(constant, ov.Type.f32)
    return ov.Model([opset13.matmul(activations, matrix, False, True)], [activations])


def stored_constants(model: ov.Model) -> list[np.ndarray]:
    return sorted(
        (np.array(op.data) for op in model.get_ops() if op.get_type_name() == "Constant"), key=lambda a: str(a.dtype)
    )


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_compression_in_blocks_of_rows_equals_that_in_one_piece(monkeypatch: pytest.MonkeyPatch, kind: ov.Type) -> None:
    """Guards large models: NNCF returns views of memory that it reuses for the next block."""
    single, blocks = matmul_model(1000, 64, kind), matmul_model(1000, 64, kind)
    with quiet_libraries():
        quantize.compress(single, "int8", 0)
        monkeypatch.setattr(quantize, "LARGE_ELEMENTS", 1000)
        monkeypatch.setattr(quantize, "BLOCK_ELEMENTS", 64 * 300)  # blocks large enough for NNCF's fast path
        quantize.compress(blocks, "int8", 0)
    operations = [[op.get_type_name() for op in model.get_ordered_ops()] for model in (single, blocks)]
    assert operations[0] == operations[1]
    assert len(stored_constants(single)) == 3
    for ours, theirs in zip(stored_constants(blocks), stored_constants(single), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_compression_equals_that_of_nncf() -> None:
    ours, theirs = matmul_model(96, 64), matmul_model(96, 64)
    with quiet_libraries():
        quantize.compress(ours, "int8", 0)
        nncf.compress_weights(theirs, mode=nncf.CompressWeightsMode.INT8_ASYM)
    for one, other in zip(stored_constants(ours), stored_constants(theirs), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_progress_rises_to_the_end(monkeypatch: pytest.MonkeyPatch, precision: Literal["int8", "int4"]) -> None:
    """Guards the minute at 2B in which nothing was said. Large matrices, heads and all others count."""
    bar = algorithm.track
    monkeypatch.setattr(quantize, "LARGE_ELEMENTS", 64 * 200)
    monkeypatch.setattr(quantize, "BLOCK_ELEMENTS", 64 * 100)
    for rows, least in ((300, 3), (100, 1)):
        fractions: list[float] = []
        with quiet_libraries():
            quantize.compress(matmul_model(rows, 64), precision, 0, fractions.append)
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1
        assert len(fractions) >= least
    assert algorithm.track is bar


def test_int8_stays_close_to_the_original(int8_export: tuple[Path, Manifest]) -> None:
    """Random weights are the worst case; measured: KL divergence 0.004, agreement 98 %."""
    figures = {result.name: result.value for result in int8_export[1].check}
    assert figures["logits, mean KL divergence"] < 0.01
    assert figures["logits, top-1 agreement"] > 0.95
    assert max(value for name, value in figures.items() if "error" in name) < 0.04


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_int4_keeps_the_output_head_at_8_bits(kind: ov.Type) -> None:
    """Other matrices have 4 bits in groups of 128 inputs. Guards fine-tunes saved in F16 and F32."""
    matrix, head = matmul_model(96, 256, kind), matmul_model(1000, 256, kind)
    with quiet_libraries():
        quantize.compress(matrix, "int4", vocab_rows=1000)
        quantize.compress(head, "int4", vocab_rows=1000)
    constants = [
        {
            op.get_element_type(): list(op.get_output_shape(0))
            for op in model.get_ops()
            if op.get_type_name() == "Constant"
        }
        for model in (matrix, head)
    ]
    assert constants[0][ov.Type.i4] == [96, 2, 128]
    assert constants[1][ov.Type.u8] in ([1000, 256], [1000, 1])
    assert ov.Type.i4 not in constants[1]


def test_an_int4_export_is_smaller_and_generates(untied_checkpoint: Path, untied_model: Path, tmp_path: Path) -> None:
    """With a head of its own."""
    exported = manifest.read(export(untied_checkpoint, tmp_path / "int4", weights="int4", check=True))
    assert exported.quantization.decoder == "int4"
    assert exported.files["decoder.bin"].size < manifest.read(untied_model).files["decoder.bin"].size / 5
    with load(tmp_path / "int4") as vlm:
        assert vlm.ask([], "Hi", Options(max_tokens=5, temperature=0)).usage.completion_tokens > 0
