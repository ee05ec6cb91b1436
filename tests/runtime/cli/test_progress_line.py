"""The progress line: drawn on terminals only, never wider than they are, erased before anything is printed."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import select
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from typing import TextIO, TypeAlias

import pytest

from vlrun.cli import progress_line
from vlrun.cli.progress_line import ERASE, ProgressLine, percent_of, timed


class Terminal:
    """A pseudo-terminal as stderr. ``drawn`` is what is on its last line, after everything that was written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, columns: int = 80, encoding: str = "utf-8") -> None:
        self._main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stderr: TextIO = os.fdopen(other, "w", encoding=encoding, errors="backslashreplace")
        monkeypatch.setattr(sys, "stderr", self.stderr)
        monkeypatch.setenv("TERM", "xterm")
        self.written = ""

    def read_until(self, text: str) -> None:
        while text not in self.written:
            assert select.select([self._main], [], [], 20)[0], f"no {text!r} after {self.written!r}"
            self.written += os.read(self._main, 4096).decode(self.stderr.encoding)

    @property
    def lines(self) -> list[str]:
        """The texts that were drawn."""
        return [line.split("\x1b[K")[0] for line in self.written.split("\r")[1:] if not line.startswith("\x1b[K")]

    def close(self) -> None:
        os.close(self._main)
        self.stderr.close()


MakeTerminal: TypeAlias = Callable[..., Terminal]


@pytest.fixture
def make_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeTerminal]:
    """Make a terminal in the test itself: pytest replaces stderr between a fixture and its test."""
    monkeypatch.setattr(progress_line, "DELAY_SECONDS", 0.0)
    with contextlib.ExitStack() as opened:
        yield lambda *args: opened.enter_context(contextlib.closing(Terminal(monkeypatch, *args)))


def test_the_line_is_drawn_and_erased(make_terminal: MakeTerminal) -> None:
    terminal = make_terminal()
    with ProgressLine() as line:
        line.show(lambda: "loading")
        terminal.read_until("loading")
        line.show(lambda: "reading")
        terminal.read_until("reading")
    terminal.read_until(ERASE)
    assert terminal.written.endswith(ERASE)
    assert set(terminal.lines) == {"loading", "reading"}


def test_an_error_erases_it(make_terminal: MakeTerminal) -> None:
    """``vlrun: interrupted`` was to stand on a line of its own."""
    terminal = make_terminal()
    with contextlib.suppress(KeyboardInterrupt), ProgressLine() as line:
        line.show(lambda: "loading")
        terminal.read_until("loading")
        raise KeyboardInterrupt
    terminal.read_until(ERASE)


def test_what_is_printed_in_between_has_its_own_line(make_terminal: MakeTerminal) -> None:
    """Notes of other threads, and the log of ``vlrun serve``."""
    terminal = make_terminal()
    with ProgressLine() as line:
        line.show(lambda: "loading")
        terminal.read_until("loading")
        print("a note", file=line.stream)
        terminal.read_until("a note\r\n")
        before = terminal.written.split("a note")[0]
        assert before.endswith(ERASE)
        terminal.written = ""
        terminal.read_until("loading")


def test_an_empty_text_ends_it(make_terminal: MakeTerminal) -> None:
    terminal = make_terminal()
    texts = iter(["loading", ""])
    with ProgressLine() as line:
        line.show(lambda: next(texts))
        terminal.read_until(ERASE)
        assert terminal.written.endswith(ERASE)
        line.show(lambda: "again")
        terminal.read_until("again")


def test_fast_work_shows_nothing(make_terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = make_terminal()
    monkeypatch.setattr(progress_line, "DELAY_SECONDS", 60.0)
    with ProgressLine() as line:
        line.show(lambda: "loading")
        line.clear()
        line.show(lambda: "reading")
    print("end", file=terminal.stderr, flush=True)
    terminal.read_until("end")
    assert terminal.written == "end\r\n"


@pytest.mark.parametrize(
    ("term", "wanted", "is_terminal"),
    [("dumb", True, True), ("", True, True), ("xterm", False, True), ("xterm", True, False)],
)
def test_nothing_without_a_terminal(
    term: str, wanted: bool, is_terminal: bool, make_terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe, a file or a log gets no control characters; neither does a terminal that cannot erase."""
    make_terminal()
    monkeypatch.setenv("TERM", term)
    if not term:
        monkeypatch.delenv("TERM")
    if not is_terminal:
        monkeypatch.setattr(sys, "stderr", io.StringIO())
    threads = threading.active_count()
    with ProgressLine(wanted) as line:
        line.show(lambda: "loading")
        assert not line.active
        assert threading.active_count() == threads
        print("a note", file=line.stream)
    if not is_terminal:
        assert isinstance(sys.stderr, io.StringIO)
        assert sys.stderr.getvalue() == "a note\n"


def test_a_closed_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert not ProgressLine().active


TEXTS = {
    "loading a-model-with-a-long-name: 3 s": ("utf-8", 10, "loading a"),
    "正在加载模型": ("utf-8", 8, "正在加"),  # two columns each
    "模型": ("ascii", 80, "??"),  # not \u6a21\u578b, which is longer than it looks
    "e\u0301\u200be\u0301": ("utf-8", 3, "e\u0301\u200be\u0301"),
    "a\x1b[2Jb\nc\td": ("utf-8", 80, "a[2Jb c d"),
    "······": ("utf-8", 7, "···"),  # two columns on East Asian terminals
    "no width": ("utf-8", 0, "no width"),
    "two columns": ("utf-8", 2, "t"),
}


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_the_line_fits_into_the_terminal(text: str, make_terminal: MakeTerminal) -> None:
    """A line that wraps leaves its first part on the screen when it is erased."""
    encoding, columns, shown = TEXTS[text]
    terminal = make_terminal(columns, encoding)
    with ProgressLine() as line:
        line.show(lambda: text)
        terminal.read_until("\x1b[K")
        assert terminal.lines[0] == shown


def test_times_and_percentages(monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimate that was too short is not shown for ever as 99 %."""
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    estimated, unknown, half = timed("load", 4.0, 100.0), timed("load", None, 100.0), timed("load", 4.0, 100.0, 0.5)
    shown = []
    for clock[0] in (100.0, 101.5, 103.99, 104.0, 110.0):
        shown.append((estimated(), unknown(), half()))
    assert shown == [
        ("load: 0 %, 4 s left", "load: 0 s", "load: 50 %, 4 s left"),
        ("load: 37 %, 3 s left", "load: 2 s", "load: 68 %, 3 s left"),
        ("load: 99 %, 1 s left", "load: 4 s", "load: 99 %, 1 s left"),
        ("load: 4 s", "load: 4 s", "load: 50 %, 4 s"),
        ("load: 10 s", "load: 10 s", "load: 50 %, 10 s"),
    ]
    assert percent_of("x", 1.5, 0.0) == "x: 99 %, 0 s left"
