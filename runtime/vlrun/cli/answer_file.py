"""``--output``: what would be printed to stdout goes to a file."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from vlrun.cli.output import print_text
from vlrun.cli.terminal import print_note
from vlrun.errors import OutputError


@contextlib.contextmanager
def stdout_to(path: Path | None) -> Iterator[Callable[[], None]]:
    """Collect what is printed to stdout in the block; without a path, print it as usual.

    Yields a function that writes what was printed so far to the file; after complete answers only, so that the file
    never has half of one. If that fails, it prints the text instead: it may have taken hours.

    Raises:
        OutputError: The file exists, or it cannot be written.
    """
    if path is None:
        yield lambda: None
        return
    from vlrun.storage.output_file import NewFile

    file, collected = NewFile(path), io.BytesIO()
    written = False

    def save() -> None:
        nonlocal written
        sys.stdout.flush()
        if not collected.getvalue():
            return
        try:
            file.write(collected.getvalue())
        except OutputError:
            with contextlib.redirect_stdout(stdout):
                print_text(collected.getvalue().decode().removesuffix("\n"))
            raise
        written = True

    stdout = sys.stdout
    with contextlib.redirect_stdout(io.TextIOWrapper(collected, "utf-8", newline="\n")):
        yield save
    if written:
        print_note(f"wrote '{path}'")
