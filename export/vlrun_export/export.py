"""Exports a checkpoint folder to a model folder. What is wrong with the paths is found before torch is loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vlrun.layout import OPTIMUM, VLRUN, Layout
from vlrun.manifest import Manifest
from vlrun_export.checkpoint_contents import read_contents
from vlrun_export.model_folder import atomic_folder, check_apart
from vlrun_export.optimum_files import check_tokenizer_converter
from vlrun_export.progress import Progress, no_progress

if TYPE_CHECKING:
    from vlrun_export.quantize import Precision


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    layout: Layout = VLRUN,
    weights: Precision = "int8",
    vision: Precision = "int8",
    check: bool = True,
    force: bool = False,
    progress: Progress = no_progress,
) -> Manifest:
    """Export the Qwen3-VL checkpoint folder ``checkpoint`` to the model folder ``out``.

    Args:
        checkpoint: Hugging Face folder with safetensors.
        out: Model folder to create.
        layout: Layout of the model folder.
        weights: Precision of the decoder's matrices.
        vision: Precision of the vision encoder's matrices.
        check: Compare the result with transformers.
        force: Replace an existing model folder.
        progress: Called at each step.

    Raises:
        CheckpointError: The checkpoint cannot be exported.
        OutputError: ``out`` cannot be written.
        CheckFailed: The result deviates from transformers, or the runtime cannot answer with it.

    After an error ``out`` is unchanged.
    """
    check_apart(out, checkpoint)
    with atomic_folder(out, force) as folder:
        read_contents(checkpoint)
        if layout == OPTIMUM:
            check_tokenizer_converter()
        progress("loading torch and transformers")
        from vlrun_export.conversion import convert

        name = os.fsencode(os.path.realpath(out)).rpartition(b"/")[2].decode(errors="replace")
        return convert(
            checkpoint, folder, name, layout=layout, weights=weights, vision=vision, check=check, progress=progress
        )
