"""The comparison on the embedded model: partial results are kept, and a resumed run measures only the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.compare import comparison_table
from tests.paths import EXPORT, ROOT, RUNTIME
from vlrun.bench.report import FIGURES
from vlrun.embedded import FOLDER

pytestmark = pytest.mark.slow

SHORT = ("--model", FOLDER, "--rounds", "1", "--tokens", "2")


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start the comparison with a workload that only prints samples."""
    command = ["-m", "tests.benchmarks.quick_compare", "--fake"]
    paths = os.pathsep.join(map(str, (ROOT, RUNTIME, EXPORT)))
    return subprocess.Popen(
        [sys.executable, *command, *map(str, (*SHORT, *arguments))],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def compare(*arguments: str | Path, cwd: Path) -> tuple[int, str, str]:
    with start(*arguments, cwd=cwd) as process:
        out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def events(path: Path) -> list[dict[str, object]]:
    """Return the events in the file so far, without an incomplete last line."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def runs(path: Path, event: str) -> Counter[tuple[object, object]]:
    return Counter((line["participant"], line["turn"]) for line in events(path) if line["event"] == event)


def wait_for_sample(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not any(line["event"] == "sample" for line in events(path)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_failed_participant_does_not_affect_the_others(tmp_path: Path) -> None:
    """Its failure is printed, and a resumed run tries it again."""
    (tmp_path / "llama").mkdir()  # without llama-server
    code, out, err = compare("--peers", tmp_path, "--turns", "1", cwd=tmp_path)
    assert code == 1, err
    assert "llama.cpp, turn 1 of 1: llama.cpp failed: FileNotFoundError" in out
    assert "Traceback" not in out + err
    (file,) = tmp_path.glob("benchmark-*.jsonl")
    assert out.startswith(f"results are written to {file.name}\n")
    assert {line["figure"] for line in events(file) if line["event"] == "sample"} == FIGURES.keys()
    assert all(f"| {figure.label} | " in out for figure in FIGURES.values())
    assert "of the limit" in out

    code, again, _ = compare("--peers", tmp_path, "--turns", "1", "--resume", file, cwd=tmp_path)
    assert code == 1
    assert runs(file, "start") == {("vlrun", 0): 1, ("llama.cpp", 0): 2}
    assert out.split("\n\n")[1] == again.split("\n\n")[1]


def test_ctrl_c_keeps_the_measurements_and_resume_runs_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    with start("--turns", "1", "--client", "--out", file, cwd=tmp_path) as process:
        wait_for_sample(file, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted; --resume" in err
    assert "Traceback" not in err
    assert "| process start to first token of a text | " in out
    assert not runs(file, "end")

    code, out, err = compare("--turns", "1", "--client", "--resume", file, cwd=tmp_path)
    assert code == 0, err
    assert runs(file, "end") == {("vlrun", 0): 1, ("vlrun, client CPU", 0): 1}
    assert "| figure | vlrun, client CPU |" in out
    code, out, _ = compare("--turns", "1", "--client", "--resume", file, cwd=tmp_path)
    assert code == 0
    assert "turn 1 of 1" not in out


def test_a_killed_run_loses_no_sample(tmp_path: Path) -> None:
    """Every sample is flushed to the file."""
    file = tmp_path / "results.jsonl"
    with start("--out", file, cwd=tmp_path) as process:
        wait_for_sample(file, process)
        process.kill()
        process.communicate(timeout=60)
    assert any(line["event"] == "sample" for line in events(file))


def test_the_time_limit_ends_the_comparison_like_ctrl_c(tmp_path: Path) -> None:
    code, out, err = compare("--time-limit", "0.05", "--out", tmp_path / "results.jsonl", cwd=tmp_path)
    assert code == 130
    assert "out of time; --resume" in err
    assert "nothing was measured" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--resume", "absent.jsonl"), 2, "there is no file 'absent.jsonl' to resume"),
        (("--out", "there.jsonl"), 2, "exists already"),
        (("--model", "nowhere"), 4, "nowhere"),
    ],
)
def test_wrong_usage_is_reported_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "there.jsonl").touch()
    found, out, err = compare(*arguments, cwd=tmp_path)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_the_ratio_is_vlruns_median_divided_by_the_peers() -> None:
    """It is empty where either measured nothing."""
    ours = {"tpot": [0.050, 0.052, 0.090], "peak": [float(2**30)]}
    theirs = {"tpot": [0.1, 0.104, 0.2], "load": [2.0]}
    rows = comparison_table({"vlrun": ours, "peer": theirs})
    assert rows[0] == "| figure | vlrun | peer | ratio |"
    assert rows[2] == "| load |  | 2.00 s |  |"
    assert rows[3] == "| TPOT (decode, per token) | 52.0 ms (50.0 to 90.0) | 104 ms (100 to 200) | 0.50 |"
    assert rows[4] == "| resident memory, peak | 1,024 MiB |  |  |"
