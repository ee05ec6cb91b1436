"""``vlrun tune``: find the fastest hints for a model on this box, once. Knows click."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--model", type=click.Path(path_type=Path), metavar="DIR", required=True, help="Model folder.")
@click.option("--device", default="CPU", show_default=True, help="CPU or GPU.")
def tune(model: Path, device: str) -> None:
    """Measure which hints are fastest on this machine, in a minute or two; `vlrun ask` uses them from then on.

    The figures are seconds for a question about a 1024 x 768 image with 64 tokens of answer.
    """
    from vlrun import manifest as manifests
    from vlrun.backends.openvino import autotune as tuning
    from vlrun.models.verification import verify

    manifest = manifests.read(model)
    verify(manifest, model)
    found = tuning.tune(model, manifest, device.upper(), lambda words: click.echo(words, err=True))
    click.echo(
        f"decoder {found.decoder_precision}, groups of {found.group_size}, "
        f"{found.threads or 'all'} threads, vision {found.vision_precision or 'as the device likes'}: "
        f"{found.seconds:.2f} s, with the defaults {found.default_seconds:.2f} s"
    )
    tuning.save_tuned(found, model, device.upper())
