"""Small models as ONNX graphs, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exports import export, made_once
from vlrun.layout import ONNX


@pytest.fixture(scope="session")
def onnx_model(small_checkpoint: Path) -> Path:
    """Export each small checkpoint to ONNX in FP32, with the comparison with transformers."""
    folder = small_checkpoint.parent / "onnx-fp32"
    return made_once(folder, lambda out: export(small_checkpoint, out, ONNX, check=True))


@pytest.fixture(scope="session")
def tied_onnx_model(tied_checkpoint: Path) -> Path:
    """Export the tied one of the small checkpoints to ONNX in INT8."""
    folder = tied_checkpoint.parent / "onnx-int8"
    return made_once(folder, lambda out: export(tied_checkpoint, out, ONNX, "int8", check=True))
