"""The lines of progress, on a terminal and in a log."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from vlrun.cli.progress_line import ProgressLine
from vlrun_export.progress_lines import ProgressLines


class Shown(ProgressLine):
    """The line of a terminal that remembers what it shows, instead of drawing it again and again."""

    def __init__(self) -> None:
        super().__init__(wanted=False)
        self.active = True
        self.texts: list[str] = []

    def show(self, describe: Callable[[], str]) -> None:
        """Remember the text of this moment."""
        self.texts.append(describe())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list whose element is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_terminal_shows_what_is_done_of_a_step(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the minute of compression in which nothing was shown."""
    line = Shown()
    progress = ProgressLines(line)
    clock[0] += 5
    progress("compressing")
    for fraction in (0.0, 0.1, 0.5):
        clock[0] += 1
        progress("compressing", fraction)
    progress("checked\na table")
    assert line.texts == [
        "compressing: 0 s", "compressing: 10 %, 18 s left", "compressing: 50 %, 3 s left", "checked: 0 s",
    ]  # fmt: skip
    assert capsys.readouterr().err.splitlines() == [
        "   5.0 s  compressing",
        "   8.0 s  checked",
        "          a table",
    ]


def test_a_log_gets_a_line_every_ten_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressLines(ProgressLine(wanted=False))
    progress("compressing")
    for second in range(1, 31):
        clock[0] += 1
        progress("compressing", second / 30)
    assert capsys.readouterr().err.splitlines() == [
        "   0.0 s  compressing",
        "  10.0 s  compressing: 33%",
        "  20.0 s  compressing: 67%",
        "  30.0 s  compressing: 100%",
    ]
