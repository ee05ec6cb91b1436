"""Samples arrive one by one from a workload's process, and no process is left behind."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from vlrun.bench.runner import WorkloadCommand, run_workload
from vlrun.errors import DeviceError

pytestmark = pytest.mark.slow

MODULE = """
import subprocess, sys, time
print("output of a library")
print('["load", 1.5]', flush=True)
if "fails" in sys.argv:
    sys.exit("out of memory")
child = subprocess.Popen(["sleep", "60"])
print(f'["child", {child.pid}]', flush=True)
time.sleep(60)
"""


@pytest.fixture
def workload(tmp_path: Path) -> WorkloadCommand:
    (tmp_path / "fake_workload.py").write_text(MODULE)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    return WorkloadCommand("fake", ("fake_workload",), environment={"PYTHONPATH": paths}, processes=(("fails",),))


def test_a_failure_is_raised_after_the_samples(workload: WorkloadCommand) -> None:
    """The message is the last line of stderr."""
    samples = run_workload(workload)
    assert next(samples) == ("load", 1.5)
    with pytest.raises(DeviceError, match=r"^fake failed: out of memory$"):
        next(samples)


def test_closing_kills_the_process_and_its_children(workload: WorkloadCommand) -> None:
    """Guards Ctrl+C: a server started by a peer must not keep running."""
    running = WorkloadCommand("fake", workload.command, workload.environment)
    with closing(run_workload(running)) as samples:
        assert next(samples) == ("load", 1.5)
        name, child = next(samples)
    assert name == "child"
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child:.0f}/status").exists() and "zombie" not in Path(f"/proc/{child:.0f}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
