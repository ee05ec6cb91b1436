"""INT8: compression in blocks of rows equals NNCF's own, and stays close to the original."""

from __future__ import annotations

from pathlib import Path

import nncf
import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13

from vlrun.manifest import Manifest
from vlrun_export import quantize
from vlrun_export.quiet import quiet


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
    """Guards the head of large models: NNCF hands out views of memory that it reuses for the next block."""
    whole, blocks = product_model(1000, 64), product_model(1000, 64)
    with quiet():
        quantize.compress(whole)
        monkeypatch.setattr(quantize, "LARGE_ELEMENTS", 1000)
        monkeypatch.setattr(quantize, "BLOCK_ELEMENTS", 64 * 300)  # blocks large enough for NNCF's fast path
        quantize.compress(blocks)
    operations = [[op.get_type_name() for op in model.get_ordered_ops()] for model in (whole, blocks)]
    assert operations[0] == operations[1]
    assert len(stored(whole)) == 3
    for ours, theirs in zip(stored(blocks), stored(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_compression_is_nncf_s_and_whole() -> None:
    """Guards the recipe in the manifest: unsigned bytes, one scale and zero point for each row."""
    ours, theirs = product_model(96, 64), product_model(96, 64)
    with quiet():
        quantize.compress(ours)
        nncf.compress_weights(theirs, mode=nncf.CompressWeightsMode.INT8_ASYM)
    for one, other in zip(stored(ours), stored(theirs), strict=True):
        np.testing.assert_array_equal(one, other)


def test_int8_stays_close(int8_export: tuple[Path, Manifest]) -> None:
    """Guards INT8's quality on random weights, where errors add up most: measured 0.004 and 98 %."""
    figures = {result.name: result.value for result in int8_export[1].check}
    assert figures["logits, mean KL divergence"] < 0.01
    assert figures["logits, top-1 agreement"] > 0.95
    assert max(value for name, value in figures.items() if "error" in name) < 0.04
