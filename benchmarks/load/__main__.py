"""Tests the service under load, or measures the overhead of HTTP:

    python -m benchmarks.load soak [--model DIR] [--minutes N] [--clients N] [--requests N] [--kill] [--out FILE]
    python -m benchmarks.load overhead [--model DIR] [--turns N] [--tokens N] [--streams-only] [--out FILE]

Prints a table for docs/performance.md and, as the last line, one JSON object. The exit code is 1 if a goal was missed.
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

from benchmarks.load import overhead, soak, soak_report
from benchmarks.load.service_process import ServiceProcess
from benchmarks.load.soak_report import Goal

Report = tuple[dict[str, Any], Sequence[str], Sequence[Goal]]
"""Metrics for JSON, lines of a table, and goals."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the two tests and return the exit code."""
    options = _parser().parse_args(arguments)
    result, lines, goals = {"soak": _soak, "overhead": _overhead}[options.command](options)
    print("\n".join([*lines, "", *soak_report.goal_table(goals)]))
    line = json.dumps(result)
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    print(line)
    return 0 if all(goal.reached for goal in goals) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="load", description="Load test of the service, and overhead of HTTP.")
    commands = parser.add_subparsers(dest="command", required=True)
    soak_parser = commands.add_parser("soak", help="run many clients against the service for minutes")
    soak_parser.add_argument("--minutes", type=float, default=10.0)
    soak_parser.add_argument("--clients", type=int, default=32)
    soak_parser.add_argument("--requests", type=int, help="stop after this many requests")
    soak_parser.add_argument("--seed", type=int, default=5)
    soak_parser.add_argument("--kill", action="store_true", help="kill the service halfway and start it again")
    overhead_parser = commands.add_parser("overhead", help="compare HTTP with the engine alone")
    overhead_parser.add_argument("--turns", type=int, default=20, help="turns of each target (default: 20)")
    overhead_parser.add_argument("--tokens", type=int, default=600, help="tokens of each stream (default: 600)")
    overhead_parser.add_argument("--streams-only", action="store_true")
    for part in (soak_parser, overhead_parser):
        part.add_argument("--model", type=Path, help="model folder (default: the embedded model)")
        part.add_argument("--out", type=Path, help="also write the JSON object here")
    return parser


def _soak(options: argparse.Namespace) -> Report:
    plan = soak.SoakPlan(
        clients=options.clients,
        seconds=60 * options.minutes,
        requests=options.requests,
        kill=options.kill,
        trained=options.model is None,
        seed=options.seed,
    )
    with ServiceProcess(["--model", str(options.model)] if options.model else []) as service:
        result = soak_report.soak_metrics(asyncio.run(soak.soak(service, plan)))
    return result, soak_report.table(result), soak_report.goals(result)


def _overhead(options: argparse.Namespace) -> Report:
    plan = overhead.OverheadPlan(options.model, options.turns, options.tokens, options.streams_only)
    results = overhead.overhead(plan)
    result = {name: asdict(found) for name, found in results.items()}
    return {"model": plan.name, **result}, overhead.table(plan, results), overhead.goals(results)


if __name__ == "__main__":
    sys.exit(main())
