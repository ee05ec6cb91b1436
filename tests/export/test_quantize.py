"""INT8: compression in blocks of rows equals NNCF's own, and stays close to the original."""

from __future__ import annotations

from pathlib import Path

import nncf
import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13

from vlrun import Options, load
from vlrun.manifest import Manifest
from vlrun_export import quantize
from vlrun_export.export import export_checkpoint
from vlrun_export.quiet_libraries import quiet_libraries


def product_model(rows: int, columns: int) -> ov.Model:
    """``x @ W.T`` with random bfloat16 weights, one row of them zero, one far larger than the others."""
    weights = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    weights[3] = 0
    weights[5] *= 100
    constant = ov.op.Constant(ov.Type.bf16, ov.Shape([rows, columns]), weights.float().flatten().tolist())
    given = opset13.parameter([-1, columns], dtype=ov.Type.f32)
    return ov.Model([opset13.matmul(given, opset13.convert(constant, ov.Type.f32), False, True)], [given])


def stored(model: ov.Model) -> list[np.ndarray]:
    return sorted(
        (np.array(op.data) for op in model.get_ops() if op.get_type_name() == "Constant"), key=lambda a: str(a.dtype)
    )


def test_blocks_of_rows_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the head of large models: NNCF returns views of memory that it reuses for the next block."""
    whole, blocks = product_model(1000, 64), product_model(1000, 64)
    with quiet_libraries():
        quantize.compress(whole, "int8", 0)
        monkeypatch.setattr(quantize, "LARGE_ELEMENTS", 1000)
        monkeypatch.setattr(quantize, "BLOCK_ELEMENTS", 64 * 300)  # blocks large enough for NNCF's fast path
        quantize.compress(blocks, "int8", 0)
    operations = [[op.get_type_name() for op in model.get_ordered_ops()] for model in (whole, blocks)]
    assert operations[0] == operations[1]
    assert len(stored(whole)) == 3
    for ours, theirs in zip(stored(blocks), stored(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_compression_is_nncf_s_and_whole() -> None:
    """Guards the recipe in the manifest: unsigned bytes, one scale and zero point for each row."""
    ours, theirs = product_model(96, 64), product_model(96, 64)
    with quiet_libraries():
        quantize.compress(ours, "int8", 0)
        nncf.compress_weights(theirs, mode=nncf.CompressWeightsMode.INT8_ASYM)
    for one, other in zip(stored(ours), stored(theirs), strict=True):
        np.testing.assert_array_equal(one, other)


def test_int8_stays_close(int8_export: tuple[Path, Manifest]) -> None:
    """Guards INT8's quality on random weights, where errors add up most: measured 0.004 and 98 %."""
    figures = {result.name: result.value for result in int8_export[1].check}
    assert figures["logits, mean KL divergence"] < 0.01
    assert figures["logits, top-1 agreement"] > 0.95
    assert max(value for name, value in figures.items() if "error" in name) < 0.04


def test_int4_keeps_the_head_wide() -> None:
    """Guards INT4: groups of 128 inputs, 4 bits each; the matrix that decides the next token stays at 8 bits."""
    narrow, head = product_model(96, 256), product_model(1000, 256)
    with quiet_libraries():
        quantize.compress(narrow, "int4", vocab_rows=1000)
        quantize.compress(head, "int4", vocab_rows=1000)
    constants = [
        {
            op.get_element_type(): list(op.get_output_shape(0))
            for op in model.get_ops()
            if op.get_type_name() == "Constant"
        }
        for model in (narrow, head)
    ]
    assert constants[0][ov.Type.i4] == [96, 2, 128]
    assert constants[1][ov.Type.u8] in ([1000, 256], [1000, 1])
    assert ov.Type.i4 not in constants[1]


def test_int4_answers(small_checkpoint: Path, tmp_path: Path) -> None:
    """Guards INT4 end to end: the decoder is smaller, loads under PagedAttention and generates a token."""
    exported = export_checkpoint(small_checkpoint, tmp_path / "int4", weights="int4")
    eight = export_checkpoint(small_checkpoint, tmp_path / "int8", check=False)
    assert exported.quantization.decoder == "int4"
    assert exported.files["decoder.bin"].size < eight.files["decoder.bin"].size
    with load(tmp_path / "int4") as vlm:
        assert vlm.ask([], "Hi", Options(max_tokens=5, temperature=0)).usage.completion_tokens > 0
