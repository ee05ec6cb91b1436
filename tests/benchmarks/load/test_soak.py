"""A short soak of a real service that is killed halfway."""

from __future__ import annotations

import asyncio
import json

import pytest

from benchmarks.load import soak_report as report
from benchmarks.load.service_process import ServiceProcess
from benchmarks.load.soak import SoakPlan, soak


@pytest.mark.slow
def test_a_kill_loses_only_requests_in_flight_and_leaks_nothing() -> None:
    plan = SoakPlan(clients=24, seconds=8, images=8, kill=True, every=0.2)
    with ServiceProcess() as service:
        found = asyncio.run(soak(service, plan))
    result = report.soak_metrics(found)
    assert not result["faults"]
    assert not result["log_errors"]
    assert not result["held"]
    assert result["files"][0] == result["files"][1]
    assert 0 < result["ends"]["lost"] <= result["in_flight"]
    assert result["ends"]["answered"] > 20
    assert result["left_share"] > 0.1
    assert len(report.table(result)) > 10
    assert all(goal.measured for goal in report.goals(result))
    assert json.loads(json.dumps(result))["clients"] == 24
