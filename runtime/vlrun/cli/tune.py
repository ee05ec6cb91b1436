"""``vlrun tune``: finds the fastest hints for a model on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vlrun.cli.options import with_model
from vlrun.cli.parameter_types import NAME, FiniteRange
from vlrun.cli.terminal import print_error, print_note
from vlrun.errors import OptionError, OutputError
from vlrun.layout import LAYOUTS, OPENVINO_RUNTIME

if TYPE_CHECKING:
    from vlrun.cli.model_choice import ModelChoice

TIME_LIMIT = 150.0
"""Seconds by default: two or three choices with a 2B model on a slow CPU, all of them on a fast one."""


@click.command()
@with_model
@click.option(
    "--device", type=NAME, default="CPU", show_default=True, help="CPU, GPU, or auto: what it chooses elsewhere."
)
@click.option(
    "--time-limit",
    type=FiniteRange(10, 3600),
    default=TIME_LIMIT,
    show_default=True,
    metavar="SECONDS",
    help="Stop after this time with the best so far.",
)
def tune(model: ModelChoice, device: str, time_limit: float) -> None:
    """Find the fastest hints for a model on this machine.

    Later commands use the result. Each choice runs in its own process, in turns with the defaults, and must give the
    same results; the best so far is stored at once. Prints the estimated seconds for a question about a 1024 x 768
    image with an answer of 64 tokens.
    """
    from vlrun.backends.openvino import autotune
    from vlrun.backends.openvino.hints import Hints
    from vlrun.backends.openvino.tuned import Tuned, save_tuned
    from vlrun.models.model_folder import ModelFolder
    from vlrun.models.verification import verify

    with model.named_in_errors():
        folder = ModelFolder(model.path)
        verify(folder)
    if LAYOUTS[folder.manifest.layout].backend != OPENVINO_RUNTIME:
        raise OptionError("vlrun tune is for models that run with OpenVINO: with ONNX Runtime there is only --threads")
    device, unsaved = _device(device.upper()), ""

    def save(tuned: Tuned) -> None:
        nonlocal unsaved
        try:
            save_tuned(tuned, folder.fingerprint, device)
        except OSError as error:
            unsaved = error.strerror or str(error)

    found = autotune.tune(folder, device, time_limit, print_error, save)
    seconds = f"{found.seconds:.2f} s, with the defaults {found.default_seconds:.2f} s"
    click.echo(f"{found.apply(Hints(device=device)).describe()}: {seconds}")
    if unsaved:
        raise OutputError(f"cannot store the result in the cache folder: {unsaved}")


def _device(name: str) -> str:
    """Return the device to tune for: for AUTO, the one that other commands try first."""
    from vlrun.backends.openvino.device import candidates
    from vlrun.backends.openvino.hints import AUTO, Hints

    if name != AUTO:
        return name
    chosen = candidates(Hints(device=AUTO))[0].device
    print_note(f"device {AUTO}: tuning for {chosen}")
    return chosen
