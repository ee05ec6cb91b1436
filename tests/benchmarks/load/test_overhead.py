"""Goals of the overhead measurement."""

from __future__ import annotations

from benchmarks.load.overhead import OverheadPlan, OverheadResult, goals


def test_goals_are_reached_within_their_limits() -> None:
    slow, quick = OverheadResult(12, 9, 3, (2, 4)), OverheadResult(10, 9, 1, (1, 1))
    lossy, good = OverheadResult(90, 100, 0.1, (0, 1)), OverheadResult(99, 100, 0.01, (0, 1))
    assert [goal.reached for goal in goals({"request": slow, "streams": lossy})] == [False, False]
    assert [goal.reached for goal in goals({"request": quick, "streams": good})] == [True, True]
    assert OverheadPlan().name == "embedded"
