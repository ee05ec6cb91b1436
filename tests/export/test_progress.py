"""The lines of progress, on a terminal and in a log."""

from __future__ import annotations

import io
import time

import pytest

from vlrun_export.progress import ProgressLines


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str, /) -> int:
        """Fail."""
        raise OSError(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list whose element is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_terminal_shows_the_fraction_of_a_step_until_the_next_one(clock: list[float]) -> None:
    stream = Terminal()
    with ProgressLines(stream) as progress:
        progress("compressing")
        for fraction in (0.1, 0.25, 0.26, 0.5):
            clock[0] += 0.15
            progress("compressing", fraction)
        progress("writing\nthe file")
        clock[0] += 60
        progress("writing", 0.5)
    lines = stream.getvalue().split("\n")
    erase, indent = "\r\x1b[K", " " * 10
    assert lines == [
        "   0.0 s  compressing",
        f"{indent}25%{erase}{indent}50%{erase}   0.6 s  writing",
        f"{indent}the file",
        f"{indent}50%{erase}",
    ]


def test_a_log_gets_a_line_every_ten_seconds(clock: list[float]) -> None:
    stream = io.StringIO()
    with ProgressLines(stream) as progress:
        progress("compressing")
        for second in range(1, 31):
            clock[0] += 1
            progress("compressing", second / 30)
    assert stream.getvalue().splitlines() == [
        "   0.0 s  compressing",
        "  10.0 s  compressing: 33%",
        "  20.0 s  compressing: 67%",
        "  30.0 s  compressing: 100%",
    ]


def test_a_full_disk_under_the_log_ends_no_export() -> None:
    with ProgressLines(Full()) as progress:
        progress("compressing")
