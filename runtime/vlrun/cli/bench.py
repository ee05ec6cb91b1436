"""``vlrun bench``: the course, and beside it the machine's limits and the peers that are installed. Knows click."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vlrun.bench.report import Participant


@click.command()
@click.option("--model", type=click.Path(path_type=Path), metavar="DIR", required=True, help="Model folder.")
@click.option("--turns", type=click.IntRange(1, 100), default=2, show_default=True, help="Processes of each.")
@click.option("--rounds", type=click.IntRange(1, 100), default=2, show_default=True, help="Pictures in each process.")
@click.option("--tokens", type=click.IntRange(2, 1024), default=32, show_default=True, help="Tokens of each answer.")
@click.option("--genai", type=click.Path(path_type=Path), metavar="DIR", help="Also openvino-genai, on this folder.")
@click.option("--optimum", type=click.Path(path_type=Path), metavar="DIR", help="Also optimum-intel, on this folder.")
@click.option(
    "--transformers", type=click.Path(path_type=Path), metavar="DIR", help="Also transformers' bf16 and fp32."
)
def bench(
    model: Path,
    turns: int,
    rounds: int,
    tokens: int,
    genai: Path | None,
    optimum: Path | None,
    transformers: Path | None,
) -> None:
    """Measure vlrun on this machine, and its peers beside it: medians, spread, and what the machine allows.

    The peers' folders are what optimum-cli exported, and for transformers a checkpoint.
    """
    from vlrun import manifest as manifests
    from vlrun.bench import ceiling, report
    from vlrun.errors import DeviceError
    from vlrun.verification import verify

    verify(manifests.read(model), model)  # once, before anything is timed
    length = ("--rounds", str(rounds), "--tokens", str(tokens))
    ours = report.Participant("vlrun", ("vlrun.bench.course", str(model), *length), {})
    participants = [ours, *_peers(genai, optimum, transformers, length)]
    limit = ceiling.measure()
    found = report.run(participants, turns, lambda words: click.echo(words, err=True))
    if not found[ours.name]:
        raise DeviceError("vlrun itself could not run the course")
    found[ours.name]["ttft_disk"] = report.from_disk(ours)
    click.echo("\n".join(report.table(found)))
    click.echo()
    click.echo("\n".join(report.limits(found[ours.name], limit, model / manifests.DECODER_BIN)))
    click.echo(json.dumps({"ceiling": asdict(limit), "samples": found}))
    if failed := [name for name, samples in found.items() if not samples]:
        raise DeviceError(f"no figures of {' and '.join(failed)}")


def _peers(
    genai: Path | None, optimum: Path | None, transformers: Path | None, length: tuple[str, ...]
) -> list[Participant]:
    from vlrun.bench.report import Participant

    wanted = [
        ("openvino-genai", "genai", genai, ""),
        ("openvino-genai, best hints", "genai", genai, "best"),
        ("optimum-intel", "optimum_intel", optimum, ""),
        ("transformers bf16", "torch_reference", transformers, "bfloat16"),
        ("transformers fp32", "torch_reference", transformers, "float32"),
    ]
    return [
        Participant(name, (f"vlrun_export.peers.{module}", str(folder), "--setting", setting, *length), {})
        for name, module, folder, setting in wanted
        if folder
    ]
