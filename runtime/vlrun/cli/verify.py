"""``vlrun verify``: checks every byte of a model folder."""

from __future__ import annotations

import click

from vlrun.cli.model_choice import choose_model
from vlrun.cli.parameter_types import MODEL
from vlrun.cli.terminal import printable


@click.command()
@click.argument("model", type=MODEL, required=False)
def verify(model: str | None) -> None:
    """Check the size and SHA-256 of every file in MODEL.

    MODEL is the name of a model, or a folder; the default is the model that `vlrun ask` would use.
    """
    from vlrun.models.model_folder import ModelFolder
    from vlrun.models.verification import verify as verify_folder

    choice = choose_model(model)
    with choice.named_in_errors():
        folder = ModelFolder(choice.path)
        manifest = folder.manifest
        verify_folder(folder, again=True)
    total = sum(entry.size for entry in manifest.files.values())
    click.echo(f"{printable(manifest.name)}: {len(manifest.files)} files, {total:,} bytes, all as exported")
