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
    """All samples and the limits of the machine, as one JSON object."""
    with start("--turns", "1", "--rounds", "1", "--tokens", "8", "--json") as process:
        out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["samples"].keys() == FIGURES.keys()
    assert all(value > 0 for values in result["samples"].values() for value in values)
    assert all(ceiling["read"] > 1e8 and ceiling["flops"].keys() == PRECISIONS for ceiling in result["ceilings"])
    copying = result["copying"]
    assert copying["right"] >= copying["pages"] - 1
    assert copying["lookup"] <= 0.6 * copying["plain"]
    assert min(result["samples"]["ttft_again"]) < result["samples"]["ttft_new"][0]
    assert all(f"  {figure.label}: " in err for figure in FIGURES.values())


def test_ctrl_c_prints_the_results_so_far() -> None:
    """Table, sentences and exit code 130; an interrupted run once lost everything. No JSON ends the text."""
    with start("--turns", "50", "--tokens", "2") as process:
        assert process.stderr
        while "process start to first token" not in (line := process.stderr.readline()):
            assert line, "vlrun bench ended before its first sample"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "vlrun: interrupted" in err
    assert "| process start to first token of a text | " in out
    assert "machine: read bandwidth" in out
    assert "{" not in out
