"""The JSONL file of a comparison survives kills, and unfinished runs are repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.results import Results
from vlrun.bench.ceiling import Ceiling

SETTINGS = {"model": "abc", "rounds": 1, "tokens": 2}
CEILING = Ceiling(1e9, {"f32": 2e9})


def write_results(path: Path, end: bool = True) -> None:
    """Write a finished run of vlrun, and a run of a peer that may be unfinished."""
    results = Results(path, SETTINGS)
    for run in (("vlrun", 0), ("peer", 0)):
        results.start(run, CEILING)
        results.add(run, "load", 1.5)
        if end or run[0] == "vlrun":
            results.end(run)
    results.close()


def test_results_are_read_back(tmp_path: Path) -> None:
    write_results(tmp_path / "r.jsonl")
    again = Results(tmp_path / "r.jsonl", SETTINGS)
    assert again.finished == {("vlrun", 0), ("peer", 0)}
    assert again.samples(["peer", "vlrun", "absent"]) == {"peer": {"load": [1.5]}, "vlrun": {"load": [1.5]}}
    assert again.ceilings == [CEILING] * 2
    again.close()


def test_a_repeated_run_replaces_its_samples(tmp_path: Path) -> None:
    write_results(tmp_path / "r.jsonl", end=False)
    results = Results(tmp_path / "r.jsonl", SETTINGS)
    assert results.finished == {("vlrun", 0)}
    assert results.samples_of(("peer", 0)) == {"load": [1.5]}
    results.start(("peer", 0), CEILING)
    results.add(("peer", 0), "load", 2.5)
    results.end(("peer", 0), error="out of memory")
    assert results.samples(["peer"]) == {"peer": {"load": [2.5]}}
    assert ("peer", 0) not in results.finished
    results.close()


def test_a_truncated_line_is_ignored(tmp_path: Path) -> None:
    """Guards kill -9 during a write: the next line must not be appended to the partial one."""
    path = tmp_path / "r.jsonl"
    write_results(path)
    path.write_text(path.read_text()[:-10])
    results = Results(path, SETTINGS)
    assert results.finished == {("vlrun", 0)}
    results.start(("peer", 0), CEILING)
    results.end(("peer", 0))
    results.close()
    again = Results(path, SETTINGS)
    assert again.finished == {("vlrun", 0), ("peer", 0)}
    again.close()


def test_results_of_another_comparison_are_refused(tmp_path: Path) -> None:
    write_results(tmp_path / "r.jsonl")
    with pytest.raises(ValueError, match="another comparison"):
        Results(tmp_path / "r.jsonl", {**SETTINGS, "tokens": 99})
