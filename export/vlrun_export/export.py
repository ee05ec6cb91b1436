"""Exports a checkpoint folder to a model folder, with only one half of the model in memory at a time."""

from __future__ import annotations

import dataclasses
import gc
import os
from collections.abc import Callable
from pathlib import Path

import openvino as ov
import torch

from vlrun import manifest
from vlrun.errors import OutputError
from vlrun.manifest import CheckResult, Manifest, Quantization
from vlrun_export.check import check_folder, require_passed, table
from vlrun_export.checkpoint import Checkpoint, open_checkpoint
from vlrun_export.families.qwen3_vl.decoder_graph import build_decoder
from vlrun_export.families.qwen3_vl.vision_graph import build_vision
from vlrun_export.manifest_fields import describe
from vlrun_export.model_folder import atomic_folder, check_apart, sync
from vlrun_export.quantize import RECIPE, Precision, compress, matrix_dtype
from vlrun_export.quiet_libraries import quiet_libraries
from vlrun_export.tracing import TracedGraph, share_constants
from vlrun_export.trial_question import ask_trial_question

Progress = Callable[[str], None]


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    weights: Precision = "int8",
    vision: Precision = "int8",
    check: bool = True,
    force: bool = False,
    progress: Progress = lambda message: None,
) -> Manifest:
    """Export the Qwen3-VL checkpoint folder ``checkpoint`` to the model folder ``out``.

    Args:
        checkpoint: Hugging Face folder with safetensors.
        out: Model folder to create.
        weights: Precision of the decoder's matrices.
        vision: Precision of the vision encoder's matrices.
        check: Compare the result with transformers.
        force: Replace an existing model folder.
        progress: Called with a message at each step.

    Raises:
        CheckpointError: The checkpoint cannot be exported.
        OutputError: ``out`` cannot be written.
        CheckFailed: The result deviates from transformers, or the runtime cannot answer with it.

    After an error ``out`` is unchanged.
    """
    check_apart(out, checkpoint)
    with quiet_libraries(), atomic_folder(out, force) as folder:
        opened = open_checkpoint(checkpoint)
        recipe = f"decoder: {RECIPE[weights]}; vision: {RECIPE[vision]}; norms and biases float32"
        name = os.fsencode(os.path.realpath(out)).rpartition(b"/")[2].decode(errors="replace")
        described = describe(opened, name, Quantization(weights, vision, recipe), folder)
        rows = described.text.vocab_rows
        _export_part("vision encoder", build_vision, opened, vision, folder / manifest.VISION_XML, progress, rows)
        _export_part("decoder", build_decoder, opened, weights, folder / manifest.DECODER_XML, progress, rows)
        results: tuple[CheckResult, ...] = ()
        if check:
            progress("comparing with transformers")
            results = check_folder(opened, folder, described)
            progress("\n".join(table(results)))
            require_passed(results)
        progress("flushing and hashing")
        sealed = _seal(described, results, folder)
        del opened
        gc.collect()
        progress("asking the exported model a question")
        ask_trial_question(folder)
        return sealed


def _export_part(
    name: str,
    build: Callable[[Checkpoint, torch.dtype | None], TracedGraph],
    checkpoint: Checkpoint,
    precision: Precision,
    path: Path,
    progress: Progress,
    vocab_rows: int,
) -> None:
    progress(f"{name}: tracing")
    traced = build(checkpoint, matrix_dtype(precision))
    if precision in ("int8", "int4"):
        progress(f"{name}: compressing to {precision}")
        compress(traced.model, precision, vocab_rows)
    share_constants(traced.model)
    progress(f"{name}: writing {path.name}")
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
