"""The story of an export: from a checkpoint folder to a model folder that proves itself.

Part by part, so that never more than one half of the model is in memory: vision encoder first, then decoder, then the
check against transformers.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable
from pathlib import Path

import openvino as ov
import torch

from vlrun import manifest
from vlrun.errors import OutputError
from vlrun.manifest import CheckResult, Manifest, Quantization
from vlrun_export import contents
from vlrun_export.check import check_folder, require_passed, table
from vlrun_export.checkpoint import Checkpoint, open_checkpoint
from vlrun_export.decoder_graph import build_decoder
from vlrun_export.folder import sync, whole_folder
from vlrun_export.quantize import RECIPE, Precision, compress, matrix_dtype
from vlrun_export.quiet import quiet
from vlrun_export.tracing import TracedGraph, share_constants
from vlrun_export.vision_graph import build_vision

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

    ``weights`` and ``vision``: precision of the decoder's and of the vision encoder's matrices; ``check``: compare
    the result with transformers; ``force``: replace an older ``out``; ``progress`` is told each step in a few words.
    Raises CheckpointError, OutputError or CheckFailed; ``out`` is then as it was before.
    """
    with quiet(), whole_folder(out, force) as folder:
        opened = open_checkpoint(checkpoint)
        described = _describe(opened, out.resolve().name, Quantization(weights, vision, _recipe(weights, vision)))
        contents.copy_files(opened, folder)
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
        return _seal(described, results, folder)


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
    _save(traced.model, path)
    del traced
    gc.collect()


def _save(model: ov.Model, path: Path) -> None:
    try:
        ov.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # its way to say that a write failed
        raise OutputError(f"cannot write {path.name}: is the disk full?") from error


def _describe(checkpoint: Checkpoint, name: str, quantization: Quantization) -> Manifest:
    """The manifest of what is known before the export; a checkpoint that lacks something fails here, early."""
    return Manifest(
        format=manifest.FORMAT,
        family=manifest.FAMILY,
        name=name,
        text=contents.text_dimensions(checkpoint),
        vision=contents.vision_dimensions(checkpoint),
        tokens=contents.token_ids(checkpoint),
        preprocessing=contents.preprocessing(checkpoint),
        generation=contents.generation_defaults(checkpoint),
        quantization=quantization,
        tools=contents.tool_versions(),
        check=(),
        files={},
    )


def _recipe(weights: Precision, vision: Precision) -> str:
    return f"decoder: {RECIPE[weights]}; vision: {RECIPE[vision]}; norms and biases float32"


def _seal(described: Manifest, results: tuple[CheckResult, ...], folder: Path) -> Manifest:
    """Flush all files, hash them, and write the manifest as the last one."""
    sync(folder)
    files = {path.name: manifest.describe_file(path) for path in sorted(folder.iterdir())}
    sealed = dataclasses.replace(described, check=results, files=files)
    manifest.write(sealed, folder)
    return sealed
