"""What HTTP costs: the same jobs through a service and through the engine alone, in turn, on the same machine.

Each side is a process of its own with the model loaded; while one works the other sleeps. What a turn's two sides took
is compared with each other, since the machine may have another mood in the next one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.figures import percentile
from benchmarks.load.images import SHELF_QUESTION, photo, shelf
from benchmarks.load.report import Goal
from benchmarks.load.serving import Serving
from benchmarks.load.sides import STREAMS, Alone, Job, OverHTTP, Round

MOST_MILLISECONDS = 2.0
"""Per request, beside the engine alone."""
MOST_LOSS = 0.03
"""Of the tokens per second of four streams."""
NUMBERS = {"type": "array", "items": {"type": "integer"}, "minItems": 1000}
"""A schema whose answer takes thousands of tokens."""
HOT = 2.0
"""A temperature at which no answer goes round in a circle, and ends for that."""
LONG_TEXT = "Write down the numbers from one to one thousand, each on a line of its own."
ROUNDS = 10
"""Of a single request, before the other side's turn."""


@dataclass(frozen=True)
class Plan:
    """How much: ``turns`` of single requests and of streams of ``tokens`` each, with the model in a folder or with the
    embedded one.
    """

    model: Path | None = None
    turns: int = 20
    tokens: int = 600
    streams_only: bool = False

    @property
    def name(self) -> str:
        """Of the model."""
        return self.model.name if self.model else "embedded"


@dataclass(frozen=True)
class Compared:
    """Medians of both sides, and of what was found turn by turn when they were compared: that median, and the quartiles
    beside it.
    """

    http: float
    alone: float
    difference: float
    quartiles: tuple[float, float]


def overhead(plan: Plan) -> dict[str, Compared]:
    """Measure it, all in one run: ``request`` and ``photo`` in milliseconds; ``streams`` in tokens per second, with the
    part that is lost as the difference.
    """
    streams = Job(LONG_TEXT, plan.tokens, schema=NUMBERS, temperature=HOT, together=STREAMS)
    if plan.model:
        streams = Job(LONG_TEXT, plan.tokens, together=STREAMS)
    single = {"request": Job(SHELF_QUESTION, 1, shelf()), "photo": Job(SHELF_QUESTION, 1, photo())}
    told: dict[str, Compared] = {}
    options = ["--model", str(plan.model)] if plan.model else []
    with Serving(options) as serving, Alone(plan.model) as alone:
        sides = OverHTTP(serving.address), alone
        for name, job in {} if plan.streams_only else single.items():
            told[name] = _compared(_turns(sides, job, plan.turns, ROUNDS), _milliseconds, lambda http, own: http - own)
        told["streams"] = _compared(_turns(sides, streams, plan.turns, 1), _rate, lambda http, own: 1 - http / own)
    return told


def _turns(sides: tuple[OverHTTP, Alone], job: Job, turns: int, rounds: int) -> list[tuple[list[Round], list[Round]]]:
    """Rounds of both sides, turn by turn; who begins alternates. The first turn is not counted."""
    http, alone = sides
    found = []
    for turn in range(turns + 1):
        if turn % 2:
            own = alone.do(job, rounds)
            found.append((http.do(job, rounds), own))
        else:
            found.append((http.do(job, rounds), alone.do(job, rounds)))
    return found[1:]


def _milliseconds(rounds: Sequence[Round]) -> float:
    return 1000 * statistics.median(seconds for seconds, _ in rounds)


def _rate(rounds: Sequence[Round]) -> float:
    return sum(tokens for _, tokens in rounds) / sum(seconds for seconds, _ in rounds)


def _compared(
    turns: Sequence[tuple[list[Round], list[Round]]],
    value: Callable[[Sequence[Round]], float],
    compare: Callable[[float, float], float],
) -> Compared:
    pairs = [(value(http), value(alone)) for http, alone in turns]
    found = [compare(*pair) for pair in pairs]
    return Compared(
        http=statistics.median(http for http, _ in pairs),
        alone=statistics.median(alone for _, alone in pairs),
        difference=statistics.median(found),
        quartiles=(percentile(found, 0.25), percentile(found, 0.75)),
    )


def goals(told: Mapping[str, Compared]) -> list[Goal]:
    """Of what ``overhead`` found."""
    found = []
    if "request" in told:
        more = told["request"].difference
        found.append(
            Goal(f"HTTP costs <= {MOST_MILLISECONDS} ms a request", more <= MOST_MILLISECONDS, f"{more:.2f} ms")
        )
    loss = told["streams"].difference
    words = f"{STREAMS} streams lose <= {100 * MOST_LOSS:.0f} % of the tokens per second"
    return [*found, Goal(words, loss <= MOST_LOSS, f"{100 * loss:.1f} %")]


def table(plan: Plan, told: Mapping[str, Compared]) -> list[str]:
    """In Markdown."""
    lines = [f"| {plan.name} model | over HTTP | engine alone | HTTP costs (quartiles) |", "| --- | --- | --- | --- |"]
    for name, words in (("request", "a request, image of 4 KB"), ("photo", "a request, photo of 1024 x 768")):
        if name in told:
            one = told[name]
            cost = f"{one.difference:.2f} ms ({one.quartiles[0]:.2f} to {one.quartiles[1]:.2f})"
            lines.append(f"| {words} | {one.http:.2f} ms | {one.alone:.2f} ms | {cost} |")
    one = told["streams"]
    rates = f"{one.http:.1f} tokens/s | {one.alone:.1f} tokens/s"
    cost = f"{100 * one.difference:.1f} % ({100 * one.quartiles[0]:.1f} to {100 * one.quartiles[1]:.1f})"
    return [*lines, f"| {STREAMS} streams of {plan.tokens} tokens | {rates} | {cost} |"]
