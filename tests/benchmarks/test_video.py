"""The comparison of the time to the first token of a clip, on the embedded model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.video import main
from tests.paths import EXAMPLES
from vlrun.embedded import FOLDER


@pytest.mark.slow
def test_each_way_of_asking_has_a_row(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Guards a benchmark that no longer runs: nothing else calls it."""
    assert main([str(FOLDER), "--clip", str(EXAMPLES / "ball.mp4"), "--turns", "1"]) == 0
    printed = capfd.readouterr().out
    assert re.search(r"\| vlrun \| [\d.]+ s \| 1.00 \|", printed)
    assert re.search(r"\| vlrun ask \| [\d.]+ s \| [\d.]+ \| [\d.]+ GiB \|", printed)
    assert main([str(FOLDER), "--clip", f"{tmp_path}/none.mp4", "--turns", "1"]) == 1
    assert "| vlrun ask | failed" in capfd.readouterr().out
