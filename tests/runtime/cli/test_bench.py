"""``vlrun bench`` on the embedded model: all figures, and the results after Ctrl+C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import EXPORT, RUNTIME
from vlrun.bench.report import FIGURES
from vlrun.embedded import FOLDER

pytestmark = pytest.mark.slow

PRECISIONS = {"f32", "bf16", "int8"}


def start(*cli_args: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vlrun.cli", "bench", "--model", str(FOLDER), *map(str, cli_args)]
    environment = {**os.environ, "PYTHONPATH": f"{RUNTIME}:{EXPORT}"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_every_figure_is_measured() -> None:
    """A row and samples for each figure, the limits of the machine, and JSON as the last line."""
    with start("--turns", "1", "--rounds", "1", "--tokens", "8") as process:
        out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    lines = out.strip().splitlines()
    result = json.loads(lines[-1])
    assert result["samples"].keys() == FIGURES.keys()
    assert all(value > 0 for values in result["samples"].values() for value in values)
    assert all(ceiling["read"] > 1e8 and ceiling["flops"].keys() == PRECISIONS for ceiling in result["ceilings"])
    assert sum(line.startswith("| ") for line in lines) == 2 + len(FIGURES)
    assert "of the limit" in lines[-3]
    copying = result["copying"]
    assert copying["right"] >= copying["pages"] - 1
    assert copying["lookup"] <= 0.6 * copying["plain"], lines[-2]
    assert min(result["samples"]["ttft_again"]) < result["samples"]["ttft_new"][0]
    assert all(f"  {figure.label}: " in err for figure in FIGURES.values())


def test_ctrl_c_prints_the_results_so_far() -> None:
    """Table, JSON and exit code 130; an interrupted run once lost everything."""
    with start("--turns", "50", "--tokens", "2") as process:
        assert process.stderr
        while "process start to first token" not in (line := process.stderr.readline()):
            assert line, "vlrun bench ended before its first sample"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "vlrun: interrupted" in err
    result = json.loads(out.strip().splitlines()[-1])
    assert "start_to_text" in result["samples"]
    assert result["copying"] is None
    assert "| process start to first token of a text | " in out
