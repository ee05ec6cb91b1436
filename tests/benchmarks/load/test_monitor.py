"""Samples of a service: gauges, and resources held when idle."""

from __future__ import annotations

from benchmarks.load.monitor import ServiceSample, last_half, parse_metrics
from benchmarks.load.service_process import process_stats


def sample(at: float, pid: int = 1) -> ServiceSample:
    return ServiceSample(at, pid, round(at), process_stats("self"), {})


def test_the_last_half_excludes_the_killed_process() -> None:
    """Guards the memory slope of a run with a kill."""
    samples = [*(sample(at, 1) for at in range(10)), *(sample(at, 2) for at in range(10, 21))]
    assert [sample.at for sample in last_half(samples)] == [15, 16, 17, 18, 19, 20]


def test_gauges_are_parsed_and_held_resources_named() -> None:
    """The monitor's own connection does not count as held."""
    result = '# HELP a b\nvlrun_engine_running 2.0\nvlrun_connections 1.0\nc{kind="d e"} 3\n'
    assert parse_metrics(result) == {"vlrun_engine_running": 2.0, "vlrun_connections": 1.0, 'c{kind="d e"}': 3.0}
    assert ServiceSample(0, 1, 0, process_stats("self"), parse_metrics(result)).held == {"vlrun_engine_running": 2.0}
    assert ServiceSample(0, 1, 0, process_stats("self"), {"vlrun_connections": 3.0}).held == {"vlrun_connections": 2.0}
