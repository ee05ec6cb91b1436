"""Writes the two ONNX graphs of a model folder, each with the memory of one matrix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from vlrun.errors import OutputError
from vlrun.layout import ONNX
from vlrun_export.checkpoint import Checkpoint
from vlrun_export.families.qwen3_vl.onnx_decoder import build_decoder
from vlrun_export.families.qwen3_vl.onnx_vision import build_vision
from vlrun_export.onnx_format.graph_builder import GraphBuilder
from vlrun_export.onnx_format.linear import BLOCK
from vlrun_export.progress import Progress, Report
from vlrun_export.quantize import Precision

_BLOCKS = f"symmetric, in blocks of {BLOCK} (fewer where the width needs it), by ONNX Runtime; INT8 activations"
RECIPE = {
    "int4": f"MatMulNBits int4 weights, {_BLOCKS}; embedding and head as int8",
    "int8": f"MatMulNBits int8 weights, {_BLOCKS}",
    "fp16": "weight matrices cast to float16, computed in float32",
    "fp32": "weight matrices cast to float32",
}

TOOLS = ("torch", "transformers", "onnx", "onnxruntime")

Build = Callable[[GraphBuilder, Checkpoint, Precision, Report], None]


def export_parts(
    checkpoint: Checkpoint, weights: Precision, vision: Precision, folder: Path, progress: Progress
) -> None:
    """Write vision encoder and decoder. Raises CheckpointError and OutputError."""
    parts: tuple[tuple[str, str, Build, Precision], ...] = (
        ("vision encoder", "vision", build_vision, vision),
        ("decoder", "decoder", build_decoder, weights),
    )
    for name, graph, build, precision in parts:
        path, data = folder / ONNX.graph_file(graph), folder / ONNX.weights_file(graph)
        step = f"{name}: converting to {precision}"
        progress(step)
        try:
            with data.open("wb") as file:
                builder = GraphBuilder(path, file, data.name)
                build(builder, checkpoint, precision, partial(progress, step))
                progress(f"{name}: writing {path.name}")
                builder.save()
        except OSError as error:
            raise OutputError(f"cannot write {data.name}: {error.strerror}") from error
