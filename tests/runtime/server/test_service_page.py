"""docs/service.md says the truth: each of its blocks that is followed by an output is run and prints that."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.paths import ROOT
from tests.runtime.server.running_server import Server

PAGE = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n((?:(?!```).)*)```\n```text\n(.*?)```", PAGE, re.DOTALL)
PORT = "127.0.0.1:8321"


NAMES = [f"{block[0]}-{number}" for number, block in enumerate(BLOCKS)]


@pytest.mark.parametrize(("language", "source", "output"), BLOCKS, ids=NAMES)
def test_its_examples_run(server: Server, language: str, source: str, output: str) -> None:
    """Guards a reader who copies a block."""
    assert PORT in source
    program = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-W", "ignore", "-c"]}[language]
    source = source.replace(PORT, f"127.0.0.1:{server.port}")
    ran = subprocess.run([*program, source], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.returncode) == (output, 0), ran.stderr


def test_there_are_examples() -> None:
    """Guards against a test of nothing."""
    assert len(BLOCKS) >= 3
