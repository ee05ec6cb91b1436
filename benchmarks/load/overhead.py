"""Overhead of HTTP: the same jobs through the service and through the engine alone, alternating, on the same machine.

Each target is its own process with the model loaded; while one works, the other is idle. They are compared turn by
turn, because the load of the machine changes over time.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.images import SHELF_QUESTION, photo, shelf
from benchmarks.load.service_process import ServiceProcess
from benchmarks.load.soak_report import Goal
from benchmarks.load.stats import percentile
from benchmarks.load.targets import STREAMS, EngineTarget, GenerationJob, HTTPTarget, Round

MAX_MILLISECONDS = 2.0
"""Allowed overhead of a request."""
MAX_LOSS = 0.03
"""Allowed loss of tokens per second with four streams."""
NUMBERS_SCHEMA = {"type": "array", "items": {"type": "integer"}, "minItems": 1000}
"""A schema whose answer takes thousands of tokens."""
HIGH_TEMPERATURE = 2.0
"""A temperature at which no answer repeats itself and ends early."""
LONG_PROMPT = "Write down the numbers from one to one thousand, each on a line of its own."
ROUNDS = 10
"""Rounds of a single request in each turn."""


@dataclass(frozen=True)
class OverheadPlan:
    """What to measure: ``turns`` of single requests, and of streams of ``tokens`` each; ``model`` None is the embedded
    one.
    """

    model: Path | None = None
    turns: int = 20
    tokens: int = 600
    streams_only: bool = False

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.name if self.model else "embedded"


@dataclass(frozen=True)
class OverheadResult:
    """Medians of both targets; median and quartiles of their difference in each turn."""

    http: float
    engine: float
    difference: float
    quartiles: tuple[float, float]


def overhead(plan: OverheadPlan) -> dict[str, OverheadResult]:
    """Measure everything in one run.

    Returns:
        ``request`` and ``photo`` in milliseconds; ``streams`` in tokens per second, with the lost share as the
        difference.
    """
    streams = GenerationJob(
        LONG_PROMPT, plan.tokens, schema=NUMBERS_SCHEMA, temperature=HIGH_TEMPERATURE, concurrency=STREAMS
    )
    if plan.model:
        streams = GenerationJob(LONG_PROMPT, plan.tokens, concurrency=STREAMS)
    single = {"request": GenerationJob(SHELF_QUESTION, 1, shelf()), "photo": GenerationJob(SHELF_QUESTION, 1, photo())}
    result: dict[str, OverheadResult] = {}
    options = ["--model", str(plan.model)] if plan.model else []
    with ServiceProcess(options) as service, EngineTarget(plan.model) as engine:
        targets = HTTPTarget(service.address), engine
        for name, job in {} if plan.streams_only else single.items():
            result[name] = _compare(
                _turns(targets, job, plan.turns, ROUNDS), _milliseconds, lambda http, own: http - own
            )
        result["streams"] = _compare(_turns(targets, streams, plan.turns, 1), _rate, lambda http, own: 1 - http / own)
    return result


def _turns(
    targets: tuple[HTTPTarget, EngineTarget], job: GenerationJob, turns: int, rounds: int
) -> list[tuple[list[Round], list[Round]]]:
    """Run both targets turn by turn; the order alternates, and the first turn is not counted."""
    http, engine = targets
    found = []
    for turn in range(turns + 1):
        if turn % 2:
            own = engine.run(job, rounds)
            found.append((http.run(job, rounds), own))
        else:
            found.append((http.run(job, rounds), engine.run(job, rounds)))
    return found[1:]


def _milliseconds(rounds: Sequence[Round]) -> float:
    return 1000 * statistics.median(seconds for seconds, _ in rounds)


def _rate(rounds: Sequence[Round]) -> float:
    return sum(tokens for _, tokens in rounds) / sum(seconds for seconds, _ in rounds)


def _compare(
    turns: Sequence[tuple[list[Round], list[Round]]],
    value: Callable[[Sequence[Round]], float],
    compare: Callable[[float, float], float],
) -> OverheadResult:
    pairs = [(value(http), value(engine)) for http, engine in turns]
    found = [compare(*pair) for pair in pairs]
    return OverheadResult(
        http=statistics.median(http for http, _ in pairs),
        engine=statistics.median(engine for _, engine in pairs),
        difference=statistics.median(found),
        quartiles=(percentile(found, 0.25), percentile(found, 0.75)),
    )


def goals(result: Mapping[str, OverheadResult]) -> list[Goal]:
    """Goals for the results of ``overhead``."""
    found = []
    if "request" in result:
        more = result["request"].difference
        found.append(
            Goal(f"HTTP costs <= {MAX_MILLISECONDS} ms per request", more <= MAX_MILLISECONDS, f"{more:.2f} ms")
        )
    loss = result["streams"].difference
    description = f"{STREAMS} streams lose <= {100 * MAX_LOSS:.0f} % of the tokens per second"
    return [*found, Goal(description, loss <= MAX_LOSS, f"{100 * loss:.1f} %")]


def table(plan: OverheadPlan, result: Mapping[str, OverheadResult]) -> list[str]:
    """Format the results as Markdown."""
    lines = [
        f"| {plan.name} model | over HTTP | engine alone | HTTP overhead (quartiles) |",
        "| --- | --- | --- | --- |",
    ]
    for name, description in (
        ("request", "request with an image of 4 KB"),
        ("photo", "request with a photo of 1024 x 768"),
    ):
        if name in result:
            one = result[name]
            cost = f"{one.difference:.2f} ms ({one.quartiles[0]:.2f} to {one.quartiles[1]:.2f})"
            lines.append(f"| {description} | {one.http:.2f} ms | {one.engine:.2f} ms | {cost} |")
    one = result["streams"]
    rates = f"{one.http:.1f} tokens/s | {one.engine:.1f} tokens/s"
    cost = f"{100 * one.difference:.1f} % ({100 * one.quartiles[0]:.1f} to {100 * one.quartiles[1]:.1f})"
    return [*lines, f"| {STREAMS} streams of {plan.tokens} tokens | {rates} | {cost} |"]
