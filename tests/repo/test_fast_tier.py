"""``pytest --fast`` skips tests that are slow, import torch or start a service, and runs the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

RUN = """
import sys, pytest
code = pytest.main(["--fast", "-q", "-p", "no:cacheprovider", *sys.argv[1:]])
loaded = {"torch", "transformers", "tests.runtime.server.running_server"} & set(sys.modules)
sys.exit(f"loaded {loaded}" if loaded else code)
"""
TESTS = """
import pytest


def test_quick():
    pass


@pytest.mark.slow
def test_slow():
    raise AssertionError


def test_torch():
    import torch

    raise AssertionError


def test_checkpoint(small_checkpoint):
    raise AssertionError
"""


@pytest.mark.slow
def test_the_fast_tier_runs_only_quick_tests_and_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_tiers.py").write_text(TESTS)
    (tmp_path / "test_module.py").write_text("from tests.runtime.server.running_server import Server\n")
    command = [sys.executable, "-c", RUN, "-c", str(ROOT / "pyproject.toml"), str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed, 4 skipped, 1 deselected" in run.stdout
