"""The command ``vlrun export``. It loads torch and transformers only when it runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlrun.cli.installation import program
from vlrun.errors import OptionError
from vlrun.layout import LAYOUTS, ONNX, OPTIMUM, VLRUN

if TYPE_CHECKING:
    from vlrun_export.quantize import Precision

FORMAT = click.Choice(["openvino", ONNX.name])
LAYOUT = click.Choice([VLRUN.name, OPTIMUM.name])
WEIGHTS, VISION = click.Choice(["int4", "int8", "fp16", "fp32"]), click.Choice(["int8", "fp16", "fp32"])


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--layout", type=LAYOUT, default="vlrun", show_default=True, help="Files of OUT: vlrun's own, or those "
              "that openvino-genai and optimum-intel read; vlrun runs both.")  # fmt: skip
@click.option(
    "--format", "graphs", type=FORMAT, default="openvino", show_default=True, help="Graphs of OUT; onnx: ONNX Runtime."
)
@click.option("--weights", type=WEIGHTS, default="int8", show_default=True, help="Precision of the decoder.")
@click.option("--vision", type=VISION, default="int8", show_default=True, help="Precision of the vision encoder.")
@click.option("--check/--no-check", default=True, show_default=True, help="Compare the result with transformers.")
@click.option("--force", is_flag=True, help="Replace OUT if it is a model folder and nothing else.")
def export(
    checkpoint: Path,
    out: Path,
    layout: str,
    graphs: str,
    weights: Precision,
    vision: Precision,
    check: bool,
    force: bool,
) -> None:
    """Export a Qwen3-VL checkpoint to a model folder.

    CHECKPOINT is a Hugging Face folder with safetensors. OUT is created only if the export is complete, passes its
    self-check and answers a question.
    """
    from vlrun.cli.progress_line import ProgressLine
    from vlrun.cli.terminal import print_error
    from vlrun_export.export import export_checkpoint
    from vlrun_export.memory_watch import MemoryWatch
    from vlrun_export.progress_lines import ProgressLines

    if graphs == ONNX.name:
        if layout != VLRUN.name:
            raise OptionError(f"--layout {layout} has OpenVINO graphs: leave out --format onnx or --layout")
        layout = ONNX.name
    with ProgressLine() as line:
        progress = ProgressLines(line)
        with MemoryWatch() as memory:
            export_checkpoint(
                checkpoint,
                out,
                layout=LAYOUTS[layout],
                weights=weights,
                vision=vision,
                check=check,
                force=force,
                progress=progress,
            )
        if not check:
            progress("skipped the comparison with transformers (--no-check); the manifest records this")
        resident, anonymous = memory.peak.resident / 1e9, memory.peak.anonymous / 1e9
        progress(
            f"'{out}' is complete; peak memory {resident:.1f} GB, of which {anonymous:.1f} GB not mapped from files"
        )
    command = f'{program()} ask --model {shlex.quote(str(out))} photo.jpg "What is shown here?"'
    print_error(f"\nNext:\n  {command}")
