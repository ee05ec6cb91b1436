"""Clients of other projects run only on request: CI neither installs nor starts them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.clients.test_clients import NODE, PYTHON
from tests.paths import ROOT


def test_the_page_has_the_results_of_all_clients() -> None:
    """A client that is new in the tier has a setting and a result that users can read."""
    _, _, results = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8").partition("\n## Results\n")
    rows = re.findall(r"^\| ([a-z0-9-]+) [\d.]+ \|", results, re.MULTILINE)
    assert rows == [*PYTHON, *NODE]
    assert "WRONG" not in results


@pytest.mark.slow
@pytest.mark.parametrize(("options", "code"), [((), 5), (("--clients",), 0)])
def test_clients_are_collected_only_on_request(options: tuple[str, ...], code: int) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", "tests/clients"]
    assert subprocess.run([*command, *options], cwd=ROOT, capture_output=True, check=False).returncode == code
