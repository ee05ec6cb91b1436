"""What a soak came to: figures, goals, and a table for docs/performance.md. Knows no sockets."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.load.clients import Outcome
from benchmarks.load.figures import fairness, percentile, slope
from benchmarks.load.soak import Found
from benchmarks.load.watch import Sample, last_half

MOST_RISE = 0.1
"""MiB of resident memory per request, over the last half."""
MOST_EXCESS = 1.5
"""The unluckiest client's median wait beside the middle client's."""
SHOWN = 5
"""Faults that are told in words."""
TOKENS = 'vlrun_tokens_total{kind="completion"}'


@dataclass(frozen=True)
class Goal:
    """What had to be reached, whether it was, and what was found."""

    words: str
    reached: bool
    found: str


def figures(found: Found) -> dict[str, Any]:
    """Of one soak, by name: seconds, MiB, counts; NaN for what there was none of. Pairs are medians and 95th
    percentiles, or before and after.
    """
    outcomes, half = found.outcomes, last_half(found.samples)
    ends = Counter(outcome.end for outcome in outcomes)
    answered = Counter(outcome.client for outcome in outcomes if outcome.end == "answered")
    resident = [sample.vitals.resident for sample in found.samples]
    return {
        "clients": found.clients,
        "seconds": round(found.seconds, 1),
        "requests": len(outcomes),
        "requests_per_second": len(outcomes) / found.seconds,
        "ends": dict(ends),
        "statuses": dict(Counter(outcome.status for outcome in outcomes)),
        "left_share": ends["left"] / max(len(outcomes) - ends["busy"], 1),
        "faults": [f"{one.name}: {one.fault}" for one in outcomes if one.end == "failed"][:SHOWN],
        "complaints": found.complaints[:SHOWN],
        "wait": _both(outcomes, lambda one: one.waited),
        "wait_of_clients": _wait_of_clients(outcomes),
        "answered_of_clients": (min(answered.values(), default=0), max(answered.values(), default=0)),
        "patience": _both(outcomes, lambda one: one.patience if one.end == "answered" else None),
        "patience_most": max((one.patience for one in outcomes), default=math.nan),
        "first": _both(outcomes, lambda one: one.first),
        "ttft": _both(outcomes, lambda one: one.ttft),
        "tokens_per_second": _per_second(half, lambda sample: sample.values.get(TOKENS, 0.0)),
        "resident": (found.before.vitals.resident, found.after.vitals.resident),
        "resident_most": max(resident, default=math.nan),
        "rise": slope([(sample.requests, sample.vitals.resident) for sample in half]),
        "cached": (found.before.cached, found.after.cached),
        "files": (found.before.vitals.files, found.after.vitals.files),
        "threads": (half[0].vitals.threads if half else found.before.vitals.threads, found.after.vitals.threads),
        "held": found.after.held,
        "service_cores": _per_second(half, lambda sample: sample.vitals.processor),
        "generator_cores": found.processor / found.seconds,
        "in_flight": found.in_flight,
        "down": found.down,
    }


def goals(told: Mapping[str, Any]) -> list[Goal]:
    """Of figures."""
    failed, lost = told["ends"].get("failed", 0), told["ends"].get("lost", 0)
    least, middle, most = told["wait_of_clients"]
    return [
        Goal("no error but 429", not failed, f"{failed} failed"),
        Goal("no error in the log", not told["complaints"], f"{len(told['complaints'])} lines"),
        Goal("a kill loses only what was on its way", lost <= told["in_flight"], f"{lost} of {told['in_flight']}"),
        Goal(
            f"resident memory rises by < {MOST_RISE} MiB a request over the last half",
            told["rise"] < MOST_RISE,
            f"{told['rise']:.4f} MiB",
        ),
        _same("open files at rest as before", told["files"]),
        _same("threads at the end as in the middle", told["threads"]),
        Goal("nothing is held at rest", not told["held"], ", ".join(told["held"]) or "nothing"),
        Goal(
            f"the unluckiest client's median wait is <= {MOST_EXCESS} of the middle one's",
            most <= MOST_EXCESS * middle,
            f"{most / middle if middle else math.nan:.2f} ({most / least if least else math.nan:.2f} of the least)",
        ),
    ]


def table(told: Mapping[str, Any]) -> list[str]:
    """In Markdown."""
    ends = told["ends"]
    rows = {
        f"{told['clients']} clients, {told['seconds']:.0f} s": f"{told['requests']:,} requests",
        "answered; rightly refused": f"{ends.get('answered', 0):,}; {ends.get('refused', 0):,}",
        "left by the client": f"{ends.get('left', 0):,}, {100 * told['left_share']:.0f} % of those taken",
        "429": f"{ends.get('busy', 0):,}",
        "failed": f"{ends.get('failed', 0):,}",
        "waiting for a turn, median and p95": _seconds(told["wait"]),
        "the same, clients' medians, least to most": " / ".join(f"{wait:.2f}" for wait in told["wait_of_clients"])
        + " s",
        "answers to a client, least and most": "{} and {}".format(*told["answered_of_clients"]),
        "first text of a stream as the client sees it": _seconds(told["first"]),
        "TTFT, from the turn on": _seconds(told["ttft"]),
        "all answers together": f"{told['tokens_per_second']:.0f} tokens/s",
        "resident before, after, at most": "{:.0f}, {:.0f}, {:.0f} MiB".format(
            *told["resident"], told["resident_most"]
        ),
        "rise over the last half": f"{told['rise']:.4f} MiB a request",
        "open files at rest; threads from the middle on": "{} and {}; {} and {}".format(
            *told["files"], *told["threads"]
        ),
        "cores: the service; the clients": f"{told['service_cores']:.2f}; {told['generator_cores']:.2f}",
    }
    if told["in_flight"]:
        rows["killed in the middle"] = (
            f"{told['in_flight']} on their way, {ends.get('lost', 0)} lost, ready after {told['down']:.1f} s"
        )
    return ["| figure | here |", "| --- | --- |", *(f"| {words} | {value} |" for words, value in rows.items())]


def goal_table(goals: Sequence[Goal]) -> list[str]:
    """In Markdown."""
    rows = [f"| {goal.words} | {'yes' if goal.reached else '**no**'}: {goal.found} |" for goal in goals]
    return ["| goal | here |", "| --- | --- |", *rows]


def _same(words: str, pair: Sequence[int]) -> Goal:
    return Goal(words, pair[0] == pair[1], f"{pair[0]} and {pair[1]}")


def _both(outcomes: Sequence[Outcome], value: Callable[[Outcome], float | None]) -> tuple[float, float]:
    values = [found for outcome in outcomes if (found := value(outcome)) is not None]
    return percentile(values, 0.5), percentile(values, 0.95)


def _wait_of_clients(outcomes: Sequence[Outcome]) -> tuple[float, float, float]:
    waits = defaultdict(list)
    for outcome in outcomes:
        if outcome.waited is not None:
            waits[outcome.client].append(outcome.waited)
    return fairness(waits)


def _per_second(samples: Sequence[Sample], value: Callable[[Sample], float]) -> float:
    if len(samples) < 2:
        return math.nan
    first, last = samples[0], samples[-1]
    return (value(last) - value(first)) / (last.at - first.at)


def _seconds(pair: Sequence[float]) -> str:
    return f"{pair[0]:.2f} s, {pair[1]:.2f} s"
