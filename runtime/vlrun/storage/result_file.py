"""Files of results that grow row by row: nothing that was written is lost, and a run can be continued.

A row is one line of JSON, or one row of CSV. After a kill or a power failure the last one may be incomplete; it is
removed when the file is opened again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import stat
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO

from vlrun.errors import OutputError
from vlrun.storage.locked_file import open_locked
from vlrun.storage.row_file import FORMATS, MAX_ROW_BYTES, Row, RowFile


class ResultFile(RowFile):
    """A file of rows with ``file`` and ``request``; an answer also has ``sha256``, anything else ``error``.

    Thread-safe. Rows are found by hashes of what they belong to, in constant memory.

    Args:
        path: A new file, or one of an earlier run.
        suffixes: Those of ``FORMATS`` that are possible.

    Raises as ``RowFile``.
    """

    _index: _Index

    def __init__(self, path: Path, suffixes: Collection[str] = tuple(FORMATS)) -> None:
        self._lock = threading.Lock()
        self._outdated = False
        super().__init__(path, suffixes)

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._index.close()

    def append(self, row: Row) -> None:
        """Write a row to the disk, unless the file has its answer already. Raises OutputError."""
        with self._lock, self._errors():
            if "error" not in row and self._index.find("answer", row["file"], row["request"], row["sha256"]):
                return
            self._add(row, self._write(row))

    def has_answer(self, file: str, request: str, sha256: str) -> bool:
        """Return whether there is the answer of a file with this content."""
        with self._lock:
            return self._index.find("answer", file, request, sha256) is not None

    def answer_of(self, request: str, sha256: str) -> Row | None:
        """Return the row of another file with the same content, if there is one."""
        with self._lock, self._errors():
            found = self._index.find("content", request, sha256)
            if found is None:
                return None
            self._file.seek(found[0])
            return self._format.decode(next(self._lines())[1])

    def compact(self) -> None:
        """Remove the errors of files that were tried again. Raises OutputError; the file is then unchanged."""
        if not self._outdated:
            return
        with self._lock, self._errors():
            part = self._path.with_name(f".{self._path.name}.part")
            with contextlib.suppress(FileNotFoundError):
                part.unlink()  # of a run that was killed here
            file = open_locked(part, self._name)
            try:
                self._copy_to(file)
                part.chmod(stat.S_IMODE(os.fstat(self._file.fileno()).st_mode))
                part.replace(self._path)
            except BaseException:
                file.close()
                part.unlink(missing_ok=True)
                raise
            self._file.close()
            self._index.close()
            self._file, self._index, self._outdated = file, _Index(), False
            self._read()

    def _begin(self) -> None:
        self._index = _Index()
        self._read()
        self.compact()

    def _copy_to(self, file: IO[bytes]) -> None:
        """Write all rows but outdated errors to another file."""
        file.write(self._format.header)
        self._file.seek(len(self._format.header))
        for offset, line in self._lines():
            row = self._format.decode(line)
            if "error" not in row or self._index.find("latest", row["file"], row["request"]) == (offset, 1):
                file.write(line)
        file.flush()
        os.fsync(file.fileno())

    def _read(self) -> None:
        """Index the rows; remove a last one that is incomplete. Raises OutputError for what are no rows."""
        header = self._format.header
        self._file.seek(0)
        beginning = self._file.read(len(header))
        if beginning != header:
            if not header.startswith(beginning) or self._file.read(1):
                raise self._foreign(f"'{self._name}' exists and is")
            self._file.seek(0)
            self._file.write(header)
            self._file.flush()
        end = len(header)
        for number, (offset, line) in enumerate(self._lines(), 1):
            try:
                row = self._format.decode(line)
                self._add(row, offset)
            except (ValueError, KeyError, TypeError):
                raise self._foreign(f"row {number} of '{self._name}' is") from None
            end = offset + len(line)
        self._file.truncate(end)
        os.fsync(self._file.fileno())

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield offset and bytes of the complete rows from the position of the file on."""
        offset, line = self._file.tell(), b""
        while part := self._file.readline(MAX_ROW_BYTES):
            line += part
            if len(line) >= MAX_ROW_BYTES:
                raise OutputError(f"'{self._name}' has a row of more than {MAX_ROW_BYTES:,} bytes, the limit")
            if line.endswith(b"\n") and self._format.is_complete(line):
                yield offset, line
                offset, line = self._file.tell(), b""

    def _add(self, row: Row, offset: int) -> None:
        is_error = "error" in row
        latest = "latest", row["file"], row["request"]
        before = self._index.find(*latest)
        self._outdated = self._outdated or bool(before and before[1])
        self._index.set(*latest, value=(offset, is_error))
        if not is_error:
            self._index.set("answer", row["file"], row["request"], row["sha256"], value=(offset, 0))
            self._index.set("content", row["request"], row["sha256"], value=(offset, 0))


class _Index:
    """Offsets of rows by hashes, in a temporary file of SQLite's: ten million take no memory."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE rows (key BLOB PRIMARY KEY, at INTEGER, error INTEGER) WITHOUT ROWID")

    def close(self) -> None:
        self._database.close()

    def set(self, *key: str, value: tuple[int, int]) -> None:
        self._execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", _hash(key), *value)

    def find(self, *key: str) -> tuple[int, int] | None:
        """Return the offset of a row, and whether it is an error (1) or not (0)."""
        found: tuple[int, int] | None = self._execute("SELECT at, error FROM rows WHERE key = ?", _hash(key)).fetchone()
        return found

    def _execute(self, statement: str, *values: bytes | int) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise OutputError(f"cannot keep the list of what is answered in the temporary folder: {error}") from error


def _hash(key: Sequence[str]) -> bytes:
    return hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).digest()[:16]
