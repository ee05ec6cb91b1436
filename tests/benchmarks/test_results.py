"""The JSONL file of a comparison survives kills, and unfinished runs are measured again."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.results import Results
from vlrun.bench.ceiling import Ceiling

SETTINGS = {"model": "abc", "rounds": 1, "tokens": 2}
CEILING = Ceiling(1e9, {"f32": 2e9})


def measured(path: Path, end: bool = True) -> None:
    """A finished run of vlrun, and one of a peer that may have no end."""
    results = Results(path, SETTINGS)
    for run in (("vlrun", 0), ("peer", 0)):
        results.start(run, CEILING)
        results.add(run, "load", 1.5)
        if end or run[0] == "vlrun":
            results.end(run)
    results.close()


def test_results_are_read_back(tmp_path: Path) -> None:
    measured(tmp_path / "r.jsonl")
    again = Results(tmp_path / "r.jsonl", SETTINGS)
    assert again.finished == {("vlrun", 0), ("peer", 0)}
    assert again.samples(["peer", "vlrun", "absent"]) == {"peer": {"load": [1.5]}, "vlrun": {"load": [1.5]}}
    assert again.ceilings == [CEILING] * 2
    again.close()


def test_a_run_that_starts_again_replaces_its_samples(tmp_path: Path) -> None:
    """Guards against samples of an interrupted run beside those of its repetition."""
    measured(tmp_path / "r.jsonl", end=False)
    results = Results(tmp_path / "r.jsonl", SETTINGS)
    assert results.finished == {("vlrun", 0)}
    assert results.samples_of(("peer", 0)) == {"load": [1.5]}
    results.start(("peer", 0), CEILING)
    results.add(("peer", 0), "load", 2.5)
    results.end(("peer", 0), error="out of memory")
    assert results.samples(["peer"]) == {"peer": {"load": [2.5]}}
    assert ("peer", 0) not in results.finished
    results.close()


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path: Path) -> None:
    """Guards kill -9 in the middle of a write: the next line must not be glued to the rest of the last one."""
    path = tmp_path / "r.jsonl"
    measured(path)
    path.write_text(path.read_text()[:-10])
    results = Results(path, SETTINGS)
    assert results.finished == {("vlrun", 0)}
    results.start(("peer", 0), CEILING)
    results.end(("peer", 0))
    results.close()
    again = Results(path, SETTINGS)
    assert again.finished == {("vlrun", 0), ("peer", 0)}
    again.close()


def test_another_comparison_is_refused(tmp_path: Path) -> None:
    """Guards medians over runs of different lengths or models."""
    measured(tmp_path / "r.jsonl")
    with pytest.raises(ValueError, match="another comparison"):
        Results(tmp_path / "r.jsonl", {**SETTINGS, "tokens": 99})
