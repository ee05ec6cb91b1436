"""Runs ``vlrun`` in a pseudo-terminal, and tells what was on its screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.runtime.cli.command_line import command

ROWS = 24
SEQUENCE = re.compile(r"\r\n|\r|\x1b\[K|\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Run:
    """A finished command: its exit code, everything that it wrote, and the lines that stayed on the screen."""

    code: int
    written: str
    screen: list[str]


def run_in_terminal(
    arguments: Sequence[str | Path],
    home: Path,
    columns: int = 80,
    *,
    on_output: Callable[[str, subprocess.Popen[bytes]], None] = lambda *_: None,
    stdout: int | None = None,
    seconds: float = 150,
    **environment: str,
) -> Run:
    """Run a command whose standard streams are a terminal.

    Args:
        arguments: The arguments of ``vlrun``.
        home: Where its caches are.
        columns: Width of the terminal.
        on_output: Gets everything written so far and the process, after each part.
        stdout: Another stdout.
        seconds: Limit on the whole run.
        environment: More environment variables.
    """
    words, inherited = command(arguments, home)
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    process = subprocess.Popen(
        words, stdin=other, stdout=other if stdout is None else stdout, stderr=other,
        env=inherited | {"TERM": "xterm"} | environment, start_new_session=True,
    )  # fmt: skip
    os.close(other)
    content, end = b"", time.monotonic() + seconds
    with contextlib.suppress(OSError):  # EIO: the process has closed the terminal
        while True:
            assert time.monotonic() < end, content[-2000:]
            if select.select([main], [], [], 0.2)[0]:
                content += os.read(main, 4096)
                on_output(content.decode(errors="replace"), process)
    os.close(main)
    written = content.decode()
    return Run(process.wait(60), written, screen_of(written))


def screen_of(written: str) -> list[str]:
    """Return the lines that remain of what was written: without those that were erased or overwritten."""
    lines, position = [""], 0
    for piece in re.split(f"({SEQUENCE.pattern})", written):
        if piece == "\r\n":
            lines.append("")
            position = 0
        elif piece == "\r":
            position = 0
        elif piece == "\x1b[K":
            lines[-1] = lines[-1][:position]
        elif not SEQUENCE.fullmatch(piece):
            lines[-1] = lines[-1][:position] + piece + lines[-1][position + len(piece) :]
            position += len(piece)
    return lines
