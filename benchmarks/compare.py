"""Compares vlrun with other runtimes on one machine, in one run:

    python -m benchmarks.compare --model DIR [--peers DIR] [--client] [--turns N] [--out FILE | --resume FILE]
                                 [--time-limit SECONDS]

The participants take turns, so that changes in the load of the machine affect all of them. Each result is printed as
soon as its run ends; every sample is appended to a JSONL file as it is measured, and ``--resume`` measures only what
that file lacks. Ctrl+C, SIGTERM or the time limit end the comparison with the table of what was measured.

Exit codes: 0 done, 1 a participant failed, 2 wrong usage, 4 no valid model folder, 130 interrupted or out of time.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.participants import Comparison, Participant
from benchmarks.results import Results
from vlrun.bench import report
from vlrun.bench.ceiling import measure_ceiling
from vlrun.bench.runner import Samples, run_workload
from vlrun.errors import DeviceError, VlrunError
from vlrun.layout import LAYOUTS
from vlrun.models.model_folder import ModelFolder
from vlrun.models.verification import verify

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and return the exit code."""
    options = _parser().parse_args(arguments)
    path = options.resume or options.out or Path(time.strftime("benchmark-%Y%m%d-%H%M%S.jsonl"))
    length = ("--rounds", str(options.rounds), "--tokens", str(options.tokens))
    participants = Comparison(options.model, options.peers, options.client, length).participants()
    try:
        folder = ModelFolder(options.model)
        verify(folder)  # once, before anything is timed
        results = _open_results(path, options)
    except VlrunError as error:
        print(f"compare: {error}", file=sys.stderr)
        return error.exit_code
    except (ValueError, OSError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return EXIT_USAGE
    print(f"results are written to {path}", flush=True)
    with closing(results):
        code = _compare_until_stopped(participants, results, options.turns, options.time_limit)
        layout = LAYOUTS[folder.manifest.layout]
        decoder = options.model / layout.weights_file(layout.decoder[0])
        print("\n".join(_report(participants, results, decoder)), flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compare", description="Compare vlrun with other runtimes.")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="model folder of vlrun")
    parser.add_argument(
        "--peers", type=Path, metavar="DIR", help="folder with optimum, checkpoint, llama or some of these"
    )
    parser.add_argument("--client", action="store_true", help="also compare as on a CPU without AVX-512 and bf16")
    parser.add_argument("--turns", type=int, default=2, help="runs of each participant (default: 2)")
    parser.add_argument("--rounds", type=int, default=2, help="images in each run (default: 2)")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of each answer (default: 32)")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="stop after this time, as Ctrl+C does")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--out", type=Path, metavar="FILE", help="new JSONL file (default: benchmark-DATE-TIME.jsonl)")
    target.add_argument("--resume", type=Path, metavar="FILE", help="measure only what this JSONL file lacks")
    return parser


def _open_results(path: Path, options: argparse.Namespace) -> Results:
    """Open the file for results. Raises ValueError and OSError."""
    if options.resume and not path.exists():
        raise ValueError(f"there is no file '{path}' to resume")
    if not options.resume and path.exists():
        raise ValueError(f"'{path}' exists already; continue it with --resume, or choose another file")
    fingerprint = ModelFolder(options.model).fingerprint
    return Results(path, {"model": fingerprint, "rounds": options.rounds, "tokens": options.tokens})


def _compare_until_stopped(
    participants: Sequence[Participant], results: Results, turns: int, time_limit: float | None
) -> int:
    """Run what is missing. SIGTERM and the time limit interrupt as Ctrl+C does."""

    def stop(number: int, _: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise KeyboardInterrupt("out of time" if number == signal.SIGALRM else "interrupted")

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, time_limit or 0)
    try:
        failed = _compare(participants, results, turns)
    except KeyboardInterrupt as interruption:
        reason = str(interruption) or "interrupted"
        print(f"compare: {reason}; --resume {results.path} continues", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return EXIT_FAILED if failed else 0


def _compare(participants: Sequence[Participant], results: Results, turns: int) -> bool:
    """Let all participants take turns; return whether any of them failed."""
    failed = False
    for turn in range(turns):
        for participant in participants:
            run = participant.name, turn
            if run in results.finished or (turn and participant.once):
                continue
            results.start(run, measure_ceiling())
            error = ""
            try:
                with closing(run_workload(participant.workload)) as samples:
                    for figure, value in samples:
                        results.add(run, figure, value)
            except DeviceError as failure:  # the others go on
                error, failed = str(failure), True
            results.end(run, error)
            summary = report.summary(results.samples_of(run))
            outcome = "; ".join(filter(None, [error, summary]))
            print(f"{participant.name}, turn {turn + 1} of {turns}: {outcome}", flush=True)
    return failed


def _report(participants: Iterable[Participant], results: Results, decoder: Path) -> list[str]:
    """Tables of everything measured so far, on this CPU and as on a client CPU, and the machine's limits."""
    lines: list[str] = []
    for client in (False, True):
        samples = results.samples(one.name for one in participants if one.client == client)
        if samples:
            lines += ["", *comparison_table(samples)]
        if samples and not client and results.ceilings:
            lines += ["", *report.limits(next(iter(samples.values())), results.ceilings, decoder)]
    return lines or ["nothing was measured"]


def comparison_table(samples: Mapping[str, Samples]) -> list[str]:
    """A Markdown table: medians and ranges, and for each peer the first participant's median divided by the peer's."""
    first, *peers = samples
    heads = ["figure", first, *(head for peer in peers for head in (peer, "ratio"))]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for name, figure in report.FIGURES.items():
        columns = [samples[participant].get(name, []) for participant in (first, *peers)]
        if any(columns):
            cells = [report.format_values(figure, values) if values else "" for values in columns]
            ratios = [_ratio(columns[0], values) for values in columns[1:]]
            pairs = [cell for pair in zip(cells[1:], ratios, strict=True) for cell in pair]
            lines.append(f"| {figure.label} | " + " | ".join([cells[0], *pairs]) + " |")
    return lines


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    if not ours or not theirs or not statistics.median(theirs):
        return ""
    return f"{statistics.median(ours) / statistics.median(theirs):.2f}"


if __name__ == "__main__":
    sys.exit(main())
