"""``vlrun tasks`` as a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.cli.command_line import vlrun

pytestmark = pytest.mark.slow


def test_tasks_are_listed(tmp_path: Path) -> None:
    """The list, one task in full, and a user's own task."""
    (tmp_path / "mine.toml").write_text('[plates]\nabout = "number plates"\nprompt.en = "Read the plate."\n')
    listed = vlrun("tasks", "--tasks", tmp_path / "mine.toml", home=tmp_path).stdout.decode()
    assert [line.split()[0] for line in listed.splitlines()] == [
        "describe", "count", "locate", "ocr", "fields", "table", "chart", "report", "handwriting", "html", "compare",
        "plates",
    ]  # fmt: skip
    assert "visual tokens: 1024 to 2560" in vlrun("tasks", "locate", home=tmp_path).stdout.decode()
    assert vlrun("tasks", "nothing", home=tmp_path).returncode == 2
