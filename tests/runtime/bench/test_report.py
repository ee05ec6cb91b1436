"""The benchmark as a stranger runs it, on the embedded model: figures for all, and a peer that cannot take part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT
from vlrun.bench.ceiling import Ceiling
from vlrun.bench.report import FIGURES, Samples, limits, table
from vlrun.embedded import FOLDER

pytestmark = pytest.mark.slow

FLOPS = {"f32", "bf16", "int8"}


def bench(*words: str | Path) -> subprocess.CompletedProcess[str]:
    paths = f"{ROOT / 'runtime'}:{ROOT / 'export'}"
    command = [sys.executable, "-m", "vlrun.cli", "bench", *map(str, words)]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=300, check=False
    )


def test_every_figure_is_measured() -> None:
    """Guards the course: one row and a sample for each figure, the machine's limits, and JSON as the last line."""
    done = bench("--model", FOLDER, "--turns", "1", "--rounds", "1", "--tokens", "8", "--client")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    told = json.loads(lines[-1])
    assert told["samples"]["vlrun"].keys() == FIGURES.keys()
    assert all(value > 0 for samples in told["samples"]["vlrun"].values() for value in samples)
    assert told["samples"]["vlrun, client CPU"]["tpot"]
    assert all(ceiling["read"] > 1e8 and ceiling["flops"].keys() == FLOPS for ceiling in told["ceilings"])
    assert sum(line.startswith("| ") for line in lines) >= 4 + len(FIGURES)
    assert "of the limit" in lines[-3]
    copying = told["copying"]
    assert copying["right"] >= copying["pages"] - 1
    assert copying["lookup"] <= 0.6 * copying["plain"], lines[-2]
    assert min(told["samples"]["vlrun"]["ttft_again"]) < told["samples"]["vlrun"]["ttft_new"][0]


def test_a_peer_that_fails_is_told(tmp_path: Path) -> None:
    """Guards against a stack trace, and against a table that leaves a peer out in silence."""
    pytest.importorskip("transformers", reason="needs the workbench packages")
    (tmp_path / "checkpoint").mkdir()
    done = bench("--model", FOLDER, "--turns", "1", "--rounds", "1", "--tokens", "2", "--peers", tmp_path)
    assert done.returncode == 6
    assert "transformers bf16 failed, its last words:" in done.stderr
    assert "Traceback" not in done.stderr


def test_table_and_limits() -> None:
    """Guards units, medians, and what part of a peer's time is ours."""
    ours: Samples = {"tpot": [0.050, 0.052, 0.090], "peak": [2**30]}
    theirs: Samples = {"tpot": [0.1, 0.104, 0.2]}
    rows = table({"vlrun": ours, "peer": theirs})
    assert rows[2] == "| decode, per token | 52.0 ms (50.0 to 90.0) | 104 ms (100 to 200) | 0.50 |"
    assert rows[3] == "| resident memory at the peak | 1,024 MiB |  |  |"
    size = (FOLDER / "decoder.bin").stat().st_size
    told = limits(ours, [Ceiling(size / 0.026, {"f32": 2e9})] * 2, FOLDER / "decoder.bin")
    assert "2.00 GFLOP/s (2.00 to 2.00) in f32" in told[0]
    assert told[1].endswith("26.0 ms at that bandwidth: 50 % of the limit")
