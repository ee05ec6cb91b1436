"""Converts an opened checkpoint into the files of a model folder, with one half of the model in memory at a time."""

from __future__ import annotations

import dataclasses
import gc
from functools import partial
from pathlib import Path

import openvino as ov

from vlrun import manifest
from vlrun.errors import OutputError
from vlrun.layout import ONNX, OPTIMUM, Layout
from vlrun.manifest import CheckResult, Manifest, Quantization
from vlrun_export.check import check_folder, require_passed, table
from vlrun_export.checkpoint import Checkpoint, open_checkpoint
from vlrun_export.layout_graphs import RECIPES, GraphRecipe
from vlrun_export.manifest_fields import TOOLS, describe
from vlrun_export.model_folder import sync
from vlrun_export.optimum_files import write_tokenizer
from vlrun_export.progress import Progress
from vlrun_export.quantize import RECIPE, Precision, compress, matrix_dtype
from vlrun_export.quiet_libraries import quiet_libraries
from vlrun_export.tracing import share_constants
from vlrun_export.trial_question import ask_trial_question


def convert(
    checkpoint: Path,
    folder: Path,
    name: str,
    *,
    layout: Layout,
    weights: Precision,
    vision: Precision,
    check: bool,
    progress: Progress,
) -> Manifest:
    """Write a model named ``name`` to the empty folder, check it and return its manifest.

    Raises:
        CheckpointError: The checkpoint cannot be exported.
        OutputError: A file cannot be written.
        CheckFailed: The result deviates from transformers, or the runtime cannot answer with it.
    """
    with quiet_libraries():
        opened = open_checkpoint(checkpoint)
        if layout == ONNX:
            from vlrun_export.onnx_format.parts import RECIPE as recipes  # imports onnx
            from vlrun_export.onnx_format.parts import TOOLS as tools
            from vlrun_export.onnx_format.parts import export_parts
        else:
            recipes, tools, export_parts = RECIPE, TOOLS, partial(_export_graphs, layout)
        recipe = f"decoder: {recipes[weights]}; vision: {recipes[vision]}; norms and biases float32"
        described = describe(opened, name, Quantization(weights, vision, recipe), folder, tools)
        described = dataclasses.replace(described, layout=layout.name)
        export_parts(opened, weights, vision, folder, progress)
        results: tuple[CheckResult, ...] = ()
        if check:
            results = check_folder(opened, folder, described, progress)
            progress("\n".join(table(results)))
            require_passed(results)
        progress("flushing and hashing")
        sealed = _seal(described, results, folder)
        del opened
        gc.collect()
        progress("asking the exported model a question")
        ask_trial_question(folder)
        return sealed


def _export_graphs(
    layout: Layout, checkpoint: Checkpoint, weights: Precision, vision: Precision, folder: Path, progress: Progress
) -> None:
    """Write the OpenVINO graphs of a layout."""
    if layout == OPTIMUM:
        progress("tokenizer: converting")
        write_tokenizer(folder)
    rows = checkpoint.config.text_config.vocab_size
    for graph in RECIPES[layout.name]:
        precision = weights if graph.part == "decoder" else vision
        _export_graph(graph, checkpoint, precision, folder / layout.graph_file(graph.graph), progress, rows)


def _export_graph(
    graph: GraphRecipe,
    checkpoint: Checkpoint,
    precision: Precision,
    path: Path,
    progress: Progress,
    vocab_rows: int,
) -> None:
    progress(f"{graph.title}: tracing")
    traced = graph.build(checkpoint, matrix_dtype(precision))
    if precision in ("int8", "int4"):
        step = f"{graph.title}: compressing to {precision}"
        progress(step)
        compress(traced.model, precision, vocab_rows, partial(progress, step))
    share_constants(traced.model)
    progress(f"{graph.title}: writing {path.name}")
    try:
        ov.save_model(traced.model, path, compress_to_fp16=False)
    except RuntimeError as error:  # OpenVINO reports a failed write like this
        raise OutputError(f"cannot write {path.name}: is the disk full?") from error
    del traced
    gc.collect()


def _seal(described: Manifest, results: tuple[CheckResult, ...], folder: Path) -> Manifest:
    """Flush and hash all files, then write the manifest."""
    sync(folder)
    files = {path.name: manifest.describe_file(path) for path in sorted(folder.iterdir())}
    sealed = dataclasses.replace(described, check=results, files=files)
    manifest.write(sealed, folder)
    return sealed
