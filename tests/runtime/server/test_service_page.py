"""docs/service.md and docs/inputs.md are correct: each code block that is followed by an output prints that output."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.paths import ROOT
from tests.runtime.server.running_server import Server

PAGES = "\n".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("service.md", "inputs.md"))
BLOCKS = re.findall(r"```(bash|python)\n((?:(?!```).)*)```\n```text\n(.*?)```", PAGES, re.DOTALL)
PORT = "127.0.0.1:8321"


NAMES = [f"{block[0]}-{number}" for number, block in enumerate(BLOCKS)]


@pytest.mark.parametrize(("language", "source", "output"), BLOCKS, ids=NAMES)
def test_examples_print_the_documented_output(server: Server, language: str, source: str, output: str) -> None:
    assert PORT in source
    program = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-W", "ignore", "-c"]}[language]
    source = source.replace(PORT, f"127.0.0.1:{server.port}")
    ran = subprocess.run([*program, source], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.returncode) == (output, 0), ran.stderr


def test_examples_are_found() -> None:
    """Otherwise the test above would pass without running anything."""
    assert len(BLOCKS) >= 3
