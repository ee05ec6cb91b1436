"""Files of rows that grow for months: what was written is never read again, and nothing of it is lost."""

from __future__ import annotations

import os
from pathlib import Path

from vlrun.storage.row_file import JSON_LINES, MAX_ROW_BYTES, Row, RowFile


class RowLog(RowFile):
    """A file that gets a row for each event. Later runs append to it; a last row that was cut in half is removed.

    Args:
        path: A new file, or one of an earlier run.
        first: The member that each row begins with; a file with other rows is not touched.

    Raises as ``RowFile``.
    """

    def __init__(self, path: Path, first: str) -> None:
        self._first = f'{{"{first}": '.encode()
        super().__init__(path, (JSON_LINES,))

    def append(self, row: Row) -> None:
        """Write a row to the disk. Raises OutputError."""
        with self._errors():
            self._write(row)

    def _begin(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        begin = self._file.read(len(self._first))
        if begin != self._first[: len(begin)]:
            raise self._foreign(f"'{self._name}' exists and is")
        self._file.seek(max(size - MAX_ROW_BYTES, 0))
        half = self._file.read().rpartition(b"\n")[2]
        self._file.truncate(size - len(half))
