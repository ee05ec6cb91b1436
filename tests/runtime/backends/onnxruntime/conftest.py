"""Small models as ONNX graphs, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlrun.layout import ONNX


@pytest.fixture(scope="session")
def onnx_model(small_checkpoint: Path) -> Path:
    """Export each small checkpoint to ONNX in FP32, with the comparison with transformers."""
    from vlrun_export.export import export_checkpoint

    out = small_checkpoint.parent / "onnx-fp32"
    if not out.exists():  # pytest goes back and forth between the parameters
        export_checkpoint(small_checkpoint, out, layout=ONNX, weights="fp32", vision="fp32")
    return out


@pytest.fixture(scope="session")
def tied_onnx_model(tied_checkpoint: Path) -> Path:
    """Export the tied one of the small checkpoints to ONNX in INT8."""
    from vlrun_export.export import export_checkpoint

    out = tied_checkpoint.parent / "onnx-int8"
    export_checkpoint(tied_checkpoint, out, layout=ONNX)
    return out
