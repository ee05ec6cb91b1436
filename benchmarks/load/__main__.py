"""Puts the service under load, or measures what HTTP costs:

    python -m benchmarks.load soak [--model DIR] [--minutes N] [--clients N] [--requests N] [--kill] [--out FILE]
    python -m benchmarks.load overhead [--model DIR] [--rounds N] [--tokens N] [--streams-only] [--out FILE]

Prints a table for docs/performance.md, and one JSON object as the last line; the exit code is 1 if a goal was missed.
Every server is a process of its own, made here and ended here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.load import overhead, report, soak
from benchmarks.load.report import Goal
from benchmarks.load.serving import Serving

Told = tuple[dict[str, Any], Sequence[str], Sequence[Goal]]
"""Figures for JSON, a table of them, and the goals that they meet or miss."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the two; the exit code."""
    options = _parser().parse_args(arguments)
    told, lines, goals = {"soak": _soak, "overhead": _overhead}[options.what](options)
    print("\n".join([*lines, "", *report.goal_table(goals)]))
    line = json.dumps(told)
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    print(line)
    return 0 if all(goal.reached for goal in goals) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="load", description="The service under load, and what HTTP costs.")
    whats = parser.add_subparsers(dest="what", required=True)
    soaking = whats.add_parser("soak", help="many clients for minutes")
    soaking.add_argument("--minutes", type=float, default=10.0)
    soaking.add_argument("--clients", type=int, default=32)
    soaking.add_argument("--requests", type=int, help="end after so many, if that comes first")
    soaking.add_argument("--seed", type=int, default=5)
    soaking.add_argument("--kill", action="store_true", help="kill the service in the middle and start it again")
    comparing = whats.add_parser("overhead", help="HTTP beside the engine alone")
    comparing.add_argument("--turns", type=int, default=20, help="of each side")
    comparing.add_argument("--tokens", type=int, default=600, help="of each of four streams")
    comparing.add_argument("--streams-only", action="store_true")
    for part in (soaking, comparing):
        part.add_argument("--model", type=Path, help="a model folder; without it the embedded model answers")
        part.add_argument("--out", type=Path, help="where the JSON object is written too")
    return parser


def _soak(options: argparse.Namespace) -> Told:
    plan = soak.Plan(
        clients=options.clients,
        seconds=60 * options.minutes,
        requests=options.requests,
        kill=options.kill,
        trained=options.model is None,
        seed=options.seed,
    )
    with Serving(["--model", str(options.model)] if options.model else []) as serving:
        told = report.figures(asyncio.run(soak.soak(serving, plan)))
    return told, report.table(told), report.goals(told)


def _overhead(options: argparse.Namespace) -> Told:
    plan = overhead.Plan(options.model, options.turns, options.tokens, options.streams_only)
    compared = overhead.overhead(plan)
    told = {name: asdict(found) for name, found in compared.items()}
    return {"model": plan.name, **told}, overhead.table(plan, compared), overhead.goals(compared)


if __name__ == "__main__":
    sys.exit(main())
