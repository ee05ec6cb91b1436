"""``vlrun bench``: the course, and beside it the machine's limits and the peers that are there. Knows click."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vlrun.bench.report import Participant

OURS, GENAI = "vlrun", "openvino-genai"
AS_CLIENT = ", client CPU"


@click.command()
@click.option("--model", type=click.Path(path_type=Path), metavar="DIR", required=True, help="Model folder.")
@click.option("--turns", type=click.IntRange(1, 100), default=2, show_default=True, help="Processes of each.")
@click.option("--rounds", type=click.IntRange(1, 100), default=2, show_default=True, help="Images in each process.")
@click.option("--tokens", type=click.IntRange(2, 1024), default=32, show_default=True, help="Tokens of each answer.")
@click.option("--peers", type=click.Path(path_type=Path), metavar="DIR", help="Also the peers that have a folder here.")
@click.option("--client", is_flag=True, help="Also as a CPU without AVX-512 and bf16 would do it.")
def bench(model: Path, turns: int, rounds: int, tokens: int, peers: Path | None, client: bool) -> None:
    """Measure vlrun on this machine, and its peers beside it: medians, spread, and what the machine allows.

    The peers' folder has `optimum` (what optimum-cli exported: for openvino-genai and optimum-intel), `checkpoint` (for
    transformers) and `llama` (llama-server, model.gguf and mmproj.gguf), or some of them.
    """
    from vlrun import manifest as manifests
    from vlrun.bench import copying, report
    from vlrun.errors import DeviceError
    from vlrun.models.verification import verify

    verify(manifests.read(model), model)  # once, before anything is timed
    participants = _participants(model, peers, ("--rounds", str(rounds), "--tokens", str(tokens)), client)
    found = report.run(participants, turns, lambda words: click.echo(words, err=True))
    samples = found.samples
    if not samples[OURS]:
        raise DeviceError("vlrun itself could not run the course")
    click.echo("\n".join(report.table({name: s for name, s in samples.items() if AS_CLIENT not in name})))
    if client:
        click.echo()
        click.echo("\n".join(report.table({name: s for name, s in samples.items() if AS_CLIENT in name})))
    copied = copying.measure()
    click.echo(
        "\n".join(["", *report.limits(samples[OURS], found.ceilings, model / manifests.DECODER_BIN), copied.words])
    )
    ceilings = [asdict(ceiling) for ceiling in found.ceilings]
    click.echo(json.dumps({"ceilings": ceilings, "samples": samples, "copying": asdict(copied)}))
    if found.failed:
        raise DeviceError(f"not all took part to the end: {', '.join(dict.fromkeys(found.failed))}")


def _participants(model: Path, peers: Path | None, length: tuple[str, ...], client: bool) -> list[Participant]:
    """Ourselves first, then every peer whose folder is there."""
    from vlrun.bench.report import Participant
    from vlrun.bench.workload import CLIENT, CLIENT_ENVIRONMENT

    def peer(name: str, module: str, folder: str, *further: str) -> Participant | None:
        path = peers / folder if peers else None
        command = (f"benchmarks.peers.{module}", str(path), *length, *further)
        return Participant(name, command) if path and path.is_dir() else None

    def slow(name: str, precision: str) -> Participant | None:
        found = peer(name, "torch_reference", "checkpoint", "--setting", precision, "--rounds", "1", "--tokens", "8")
        return Participant(found.name, found.command, once=True) if found else None

    own = ("vlrun.bench.workload", str(model), *length)
    wanted = [
        Participant(OURS, own, parts=(("--only", "text"), (), ("--only", "keep"), ("--only", "disk"))),
        peer(GENAI, "genai", "optimum"),
        peer(f"{GENAI}, best hints", "genai", "optimum", "--setting", "best"),
        peer("optimum-intel", "optimum_intel", "optimum"),
        peer("llama.cpp", "llama_cpp", "llama"),
        slow("transformers bf16", "bfloat16"),
        slow("transformers fp32", "float32"),
    ]
    if client:
        imitated = [Participant(OURS, own), peer(GENAI, "genai", "optimum")]
        wanted += [
            Participant(one.name + AS_CLIENT, (*one.command, "--setting", CLIENT), CLIENT_ENVIRONMENT)
            for one in imitated
            if one
        ]
    return [one for one in wanted if one]
