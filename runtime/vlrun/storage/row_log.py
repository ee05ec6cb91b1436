"""Files of JSON lines that grow for months: what was written is never read again, and nothing of it is lost."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from vlrun.errors import OptionError, OutputError
from vlrun.storage.locked_file import append_bytes, open_locked
from vlrun.storage.output_file import check_writable, reason, resolve_links
from vlrun.storage.result_file import MAX_ROW_BYTES, JsonLines

SUFFIX = ".jsonl"


class RowLog:
    """A file that gets a row for each event. Later runs append to it; a last row that was cut in half is removed.

    Args:
        path: A new file, or one of an earlier run.
        first: The member that each row begins with; a file with other rows is not touched.

    Raises:
        OptionError: The name does not end in ``SUFFIX``.
        OutputError: The file holds something else, is being written by another process, or cannot be written.
    """

    def __init__(self, path: Path, first: str) -> None:
        if path.suffix.lower() != SUFFIX:
            raise OptionError(f"the answers about a camera are JSON lines: end '{path}' in {SUFFIX}")
        self._name = os.fspath(path)
        self._first = f'{{"{first}": '.encode()
        check_writable(self._name)
        with self._errors():
            self._file = open_locked(resolve_links(self._name), self._name)
        try:
            with self._errors():
                self._remove_half_row()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RowLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def append(self, row: Mapping[str, object]) -> None:
        """Write a row to the disk. Raises OutputError."""
        with self._errors():
            append_bytes(self._file, JsonLines().encode(row))

    def _remove_half_row(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        begin = self._file.read(len(self._first))
        if begin != self._first[: len(begin)]:
            raise OutputError(f"'{self._name}' exists and is no result of vlrun: choose another name")
        self._file.seek(max(size - MAX_ROW_BYTES, 0))
        half = self._file.read().rpartition(b"\n")[2]
        self._file.truncate(size - len(half))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write '{self._name}': {reason(error)}") from error
