"""Metrics, goals and the table of a soak, for docs/performance.md."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.load.clients import Outcome
from benchmarks.load.monitor import ServiceSample, last_half
from benchmarks.load.soak import SoakResult
from benchmarks.load.stats import fairness, percentile, slope

MAX_RISE = 0.1
"""Allowed growth of resident memory per request over the second half, in MiB."""
MAX_EXCESS = 1.5
"""Allowed ratio of the worst client's median wait to the median over all clients."""
MAX_EXAMPLES = 5
"""Faults and log errors that are listed."""
TOKENS = 'vlrun_tokens_total{kind="completion"}'


@dataclass(frozen=True)
class Goal:
    """A goal: its description, whether it was reached, and what was measured."""

    description: str
    reached: bool
    measured: str


def soak_metrics(found: SoakResult) -> dict[str, Any]:
    """Compute the metrics of a soak by name: seconds, MiB, counts; NaN where nothing was measured.

    Pairs are medians and 95th percentiles, or values before and after.
    """
    outcomes, half = found.outcomes, last_half(found.samples)
    ends = Counter(outcome.end for outcome in outcomes)
    answered = Counter(outcome.client for outcome in outcomes if outcome.end == "answered")
    resident = [sample.process_stats.resident for sample in found.samples]
    return {
        "clients": found.clients,
        "seconds": round(found.seconds, 1),
        "requests": len(outcomes),
        "requests_per_second": len(outcomes) / found.seconds,
        "ends": dict(ends),
        "statuses": dict(Counter(outcome.status for outcome in outcomes)),
        "left_share": ends["left"] / max(len(outcomes) - ends["busy"], 1),
        "faults": [f"{one.name}: {one.fault}" for one in outcomes if one.end == "failed"][:MAX_EXAMPLES],
        "log_errors": found.log_errors[:MAX_EXAMPLES],
        "wait": _both(outcomes, lambda one: one.waited),
        "wait_of_clients": _wait_of_clients(outcomes),
        "answered_of_clients": (min(answered.values(), default=0), max(answered.values(), default=0)),
        "total_wait": _both(outcomes, lambda one: one.total_wait if one.end == "answered" else None),
        "total_wait_most": max((one.total_wait for one in outcomes), default=math.nan),
        "first": _both(outcomes, lambda one: one.first),
        "ttft": _both(outcomes, lambda one: one.ttft),
        "tokens_per_second": _per_second(half, lambda sample: sample.values.get(TOKENS, 0.0)),
        "resident": (found.before.process_stats.resident, found.after.process_stats.resident),
        "resident_most": max(resident, default=math.nan),
        "rise": slope([(sample.requests, sample.process_stats.resident) for sample in half]),
        "cached": (found.before.cached, found.after.cached),
        "files": (found.before.process_stats.files, found.after.process_stats.files),
        "threads": (
            half[0].process_stats.threads if half else found.before.process_stats.threads,
            found.after.process_stats.threads,
        ),
        "held": found.after.held,
        "service_cores": _per_second(half, lambda sample: sample.process_stats.cpu_seconds),
        "generator_cores": found.generator_cpu / found.seconds,
        "in_flight": found.in_flight,
        "down": found.down,
    }


def goals(result: Mapping[str, Any]) -> list[Goal]:
    """Compare the metrics with the goals."""
    failed, lost = result["ends"].get("failed", 0), result["ends"].get("lost", 0)
    least, middle, most = result["wait_of_clients"]
    return [
        Goal("no errors except 429", not failed, f"{failed} failed"),
        Goal("no errors in the log", not result["log_errors"], f"{len(result['log_errors'])} lines"),
        Goal("a kill loses only requests in flight", lost <= result["in_flight"], f"{lost} of {result['in_flight']}"),
        Goal(
            f"resident memory grows by < {MAX_RISE} MiB per request over the second half",
            result["rise"] < MAX_RISE,
            f"{result['rise']:.4f} MiB",
        ),
        _same("as many open files when idle as before", result["files"]),
        _same("as many threads at the end as halfway", result["threads"]),
        Goal("no resource is held when idle", not result["held"], ", ".join(result["held"]) or "nothing"),
        Goal(
            f"the worst client's median wait is <= {MAX_EXCESS} times the middle client's",
            most <= MAX_EXCESS * middle,
            f"{most / middle if middle else math.nan:.2f} ({most / least if least else math.nan:.2f} of the lowest)",
        ),
    ]


def table(result: Mapping[str, Any]) -> list[str]:
    """In Markdown."""
    ends = result["ends"]
    rows = {
        f"{result['clients']} clients, {result['seconds']:.0f} s": f"{result['requests']:,} requests",
        "answered; correctly refused": f"{ends.get('answered', 0):,}; {ends.get('refused', 0):,}",
        "abandoned by the client": f"{ends.get('left', 0):,}, {100 * result['left_share']:.0f} % of accepted requests",
        "429": f"{ends.get('busy', 0):,}",
        "failed": f"{ends.get('failed', 0):,}",
        "time in the queue, median and p95": _seconds(result["wait"]),
        "median per client: lowest, middle, highest": " / ".join(f"{wait:.2f}" for wait in result["wait_of_clients"])
        + " s",
        "answers per client: lowest and highest": "{} and {}".format(*result["answered_of_clients"]),
        "first text of a stream at the client, median and p95": _seconds(result["first"]),
        "TTFT reported by the service, median and p95": _seconds(result["ttft"]),
        "all answers": f"{result['tokens_per_second']:.0f} tokens/s",
        "resident memory before, after, peak": "{:.0f}, {:.0f}, {:.0f} MiB".format(
            *result["resident"], result["resident_most"]
        ),
        "growth over the second half": f"{result['rise']:.4f} MiB per request",
        "open files when idle; threads in the second half": "{} and {}; {} and {}".format(
            *result["files"], *result["threads"]
        ),
        "cores: service; clients": f"{result['service_cores']:.2f}; {result['generator_cores']:.2f}",
    }
    if result["in_flight"]:
        rows["killed halfway"] = (
            f"{result['in_flight']} in flight, {ends.get('lost', 0)} lost, ready after {result['down']:.1f} s"
        )
    return [
        "| figure | measured |",
        "| --- | --- |",
        *(f"| {description} | {value} |" for description, value in rows.items()),
    ]


def goal_table(goals: Sequence[Goal]) -> list[str]:
    """In Markdown."""
    rows = [f"| {goal.description} | {'yes' if goal.reached else '**no**'}: {goal.measured} |" for goal in goals]
    return ["| goal | reached |", "| --- | --- |", *rows]


def _same(description: str, pair: Sequence[int]) -> Goal:
    return Goal(description, pair[0] == pair[1], f"{pair[0]} and {pair[1]}")


def _both(outcomes: Sequence[Outcome], value: Callable[[Outcome], float | None]) -> tuple[float, float]:
    values = [found for outcome in outcomes if (found := value(outcome)) is not None]
    return percentile(values, 0.5), percentile(values, 0.95)


def _wait_of_clients(outcomes: Sequence[Outcome]) -> tuple[float, float, float]:
    waits = defaultdict(list)
    for outcome in outcomes:
        if outcome.waited is not None:
            waits[outcome.client].append(outcome.waited)
    return fairness(waits)


def _per_second(samples: Sequence[ServiceSample], value: Callable[[ServiceSample], float]) -> float:
    if len(samples) < 2:
        return math.nan
    first, last = samples[0], samples[-1]
    return (value(last) - value(first)) / (last.at - first.at)


def _seconds(pair: Sequence[float]) -> str:
    return f"{pair[0]:.2f} s, {pair[1]:.2f} s"
