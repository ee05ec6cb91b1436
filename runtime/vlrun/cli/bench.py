"""``vlrun bench``: measures the workload, the machine's limits and prompt lookup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlrun.cli.options import with_model
from vlrun.cli.terminal import print_error
from vlrun.layout import LAYOUTS

if TYPE_CHECKING:
    from vlrun.bench.ceiling import Ceiling
    from vlrun.bench.copying import CopyingResult
    from vlrun.bench.runner import Samples
    from vlrun.cli.model_choice import ModelChoice
    from vlrun.manifest import Manifest


@click.command()
@with_model
@click.option("--turns", type=click.IntRange(1, 100), default=2, show_default=True, help="Runs of the workload.")
@click.option("--rounds", type=click.IntRange(1, 100), default=2, show_default=True, help="Images per run.")
@click.option("--tokens", type=click.IntRange(2, 1024), default=32, show_default=True, help="Tokens per answer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all samples instead.")
def bench(model: ModelChoice, turns: int, rounds: int, tokens: int, as_json: bool) -> None:
    """Measure vlrun on this machine.

    Prints medians with their ranges, the machine's limits, and at the end what they mean. Each sample goes to stderr as
    it is measured, the results go to stdout. Ctrl+C ends the run and prints the samples so far. In a clone,
    scripts/bench compares vlrun with other runtimes.
    """
    from vlrun.bench.ceiling import measure_ceiling
    from vlrun.bench.copying import measure_copying
    from vlrun.bench.report import FIGURES, format_values
    from vlrun.bench.runner import run_workload, vlrun_workload
    from vlrun.models.model_folder import ModelFolder
    from vlrun.models.verification import verify

    with model.named_in_errors():
        folder = ModelFolder(model.path)
        verify(folder)  # once, before anything is timed
    workload = vlrun_workload("vlrun", model.path, ("--rounds", str(rounds), "--tokens", str(tokens)))
    samples: Samples = {}
    ceilings: list[Ceiling] = []
    copying = None
    try:
        for turn in range(turns):
            print_error(f"turn {turn + 1} of {turns}")
            ceilings.append(measure_ceiling())
            with closing(run_workload(workload)) as measured:
                for name, value in measured:
                    samples.setdefault(name, []).append(value)
                    print_error(f"  {FIGURES[name].label}: {format_values(FIGURES[name], [value])}")
        copying = measure_copying()
    finally:
        if samples:
            if as_json:
                click.echo(json.dumps({"ceilings": ceilings, "samples": samples, "copying": copying}, default=asdict))
            else:
                click.echo("\n".join(_report(samples, ceilings, copying, model.path / _decoder(folder.manifest))))


def _decoder(manifest: Manifest) -> str:
    """Return the file of the decoder's weights."""
    layout = LAYOUTS[manifest.layout]
    return layout.weights_file(layout.decoder[0])


def _report(samples: Samples, ceilings: list[Ceiling], copying: CopyingResult | None, decoder: Path) -> Iterator[str]:
    from vlrun.bench import report

    yield from report.table(samples)
    yield ""
    yield from report.limits(samples, ceilings, decoder)
    if copying:
        yield copying.summary
    yield ""
    yield from report.conclusion(samples)
