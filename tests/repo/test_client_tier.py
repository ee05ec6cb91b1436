"""Clients of other projects run only on request: CI neither installs nor starts them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.paths import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(("options", "code"), [((), 5), (("--clients",), 0)])
def test_clients_are_collected_only_on_request(options: tuple[str, ...], code: int) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", "tests/clients"]
    assert subprocess.run([*command, *options], cwd=ROOT, capture_output=True, check=False).returncode == code
