"""``vlrun tune``: finds the fastest hints for a model on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from vlrun.cli.terminal import print_error


@click.command()
@click.option("--model", type=click.Path(path_type=Path), metavar="DIR", required=True, help="Model folder.")
@click.option("--device", default="CPU", show_default=True, help="CPU or GPU.")
def tune(model: Path, device: str) -> None:
    """Find the fastest hints for a model on this machine.

    Takes one or two minutes; later commands use the result. Prints the seconds for a question about a 1024 x 768 image
    with an answer of 64 tokens.
    """
    from vlrun.backends.openvino import autotune
    from vlrun.models.model_folder import ModelFolder
    from vlrun.models.verification import verify

    folder = ModelFolder(model)
    verify(folder)
    found = autotune.tune(folder, device.upper(), print_error)
    click.echo(
        f"decoder {found.decoder_precision}, group size {found.group_size}, "
        f"{found.threads or 'all'} threads, vision {found.vision_precision or 'as the device chooses'}: "
        f"{found.seconds:.2f} s, with the defaults {found.default_seconds:.2f} s"
    )
    autotune.save_tuned(found, folder.fingerprint, device.upper())
