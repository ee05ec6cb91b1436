"""Files of results that grow row by row: nothing that was written is lost, and a run can be continued.

A row is one line of JSON, or one row of CSV. It is on the disk before the next one is written. After a kill or a power
failure the last row may be incomplete; it is removed when the file is opened again.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

from vlrun.errors import OptionError, OutputError
from vlrun.storage.locked_file import append_bytes, open_locked
from vlrun.storage.output_file import check_writable, reason, resolve_links

Row: TypeAlias = Mapping[str, Any]
"""Has ``file`` and ``request``; an answer also has ``sha256``, anything else ``error``."""
MAX_ROW_BYTES = 16 * 2**20
"""Of a row that is read: the longest answer has 2 MB."""
COLUMNS = ("file", "answer", "error", "finish_reason", "notes", "question", "model", "sha256", "request")
"""Of a CSV file."""


class Format(Protocol):
    """How rows are written."""

    header: bytes

    def is_complete(self, line: bytes) -> bool:
        """Return whether a line that ends in a line end is a whole row."""

    def encode(self, row: Row) -> bytes:
        """Return a row with its line end."""

    def decode(self, line: bytes) -> Row:
        """Return a row. Raises ValueError."""


class JsonLines:
    """One JSON object per line; file names that are no UTF-8 are escaped."""

    header = b""

    def is_complete(self, _line: bytes) -> bool:
        """Return whether a line that ends in a line end is a whole row."""
        return True

    def encode(self, row: Row) -> bytes:
        """Return a row with its line end."""
        try:
            return f"{json.dumps(row, ensure_ascii=False)}\n".encode()
        except UnicodeEncodeError:
            return f"{json.dumps(row)}\n".encode()

    def decode(self, line: bytes) -> Row:
        """Return a row. Raises ValueError."""
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("not an object")
        return row


class CsvRows:
    """``COLUMNS``; an answer with line ends or quotes is quoted. All other members of a row are left out."""

    header = f"{','.join(COLUMNS)}\r\n".encode()

    def is_complete(self, line: bytes) -> bool:
        """Return whether a line that ends in a line end is a whole row."""
        return line.count(b'"') % 2 == 0

    def encode(self, row: Row) -> bytes:
        """Return a row with its line end."""
        text = io.StringIO(newline="")
        notes = {"notes": "; ".join(row.get("notes", ()))}
        csv.DictWriter(text, COLUMNS, extrasaction="ignore").writerow({**row, **notes})
        return text.getvalue().encode("utf-8", "surrogateescape")

    def decode(self, line: bytes) -> Row:
        """Return a row. Raises ValueError."""
        try:
            (values,) = csv.reader([line.decode("utf-8", "surrogateescape")], strict=True)
            members = dict(zip(COLUMNS, values, strict=True))
        except csv.Error as error:
            raise ValueError(str(error)) from None
        row: dict[str, Any] = {name: value for name, value in members.items() if value}
        notes = {"notes": [row["notes"]]} if "notes" in row else {}
        return {**row, **notes} if "error" in row else {**row, "answer": members["answer"], **notes}


FORMATS: Mapping[str, Format] = {".jsonl": JsonLines(), ".csv": CsvRows()}


class ResultFile:
    """A file of rows. Thread-safe. Rows are found by hashes of what they belong to, in constant memory.

    Args:
        path: A new file, or one of an earlier run. The suffix chooses the format.

    Raises:
        OptionError: The suffix is of no format.
        OutputError: The file holds something else, is being written by another process, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in FORMATS:
            raise OptionError(f"the results are JSON lines or CSV: end '{path}' in {' or '.join(FORMATS)}")
        self._format = FORMATS[path.suffix.lower()]
        self._name = os.fspath(path)
        check_writable(self._name)
        self._path = resolve_links(self._name)
        self._lock = threading.Lock()
        self._index = _Index()
        self._outdated = False
        with self._errors():
            self._file = open_locked(self._path, self._name)
        try:
            with self._errors():
                self._read()
            self.compact()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._index.close()

    def append(self, row: Row) -> None:
        """Write a row to the disk, unless the file has its answer already. Raises OutputError."""
        encoded = self._format.encode(row)
        with self._lock, self._errors():
            if "error" not in row and self._index.find("answer", row["file"], row["request"], row["sha256"]):
                return
            self._add(row, append_bytes(self._file, encoded))

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
                raise OutputError(f"'{self._name}' exists and is no result of vlrun: choose another name")
            self._file.seek(0)
            self._file.write(header)
            self._file.flush()
        end = len(header)
        for number, (offset, line) in enumerate(self._lines(), 1):
            try:
                row = self._format.decode(line)
                self._add(row, offset)
            except (ValueError, KeyError, TypeError):
                raise OutputError(
                    f"row {number} of '{self._name}' is no result of vlrun: choose another name"
                ) from None
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

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write '{self._name}': {reason(error)}") from error


class _Index:
    """Offsets of rows by hashes, in a temporary file of SQLite's: ten million take no memory."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE rows (key BLOB PRIMARY KEY, at INTEGER, error INTEGER) WITHOUT ROWID")

    def close(self) -> None:
        self._database.close()

    def set(self, *key: str, value: tuple[int, int]) -> None:
        self._database.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (_hash(key), *value))

    def find(self, *key: str) -> tuple[int, int] | None:
        """Return the offset of a row, and whether it is an error (1) or not (0)."""
        found: tuple[int, int] | None = self._database.execute(
            "SELECT at, error FROM rows WHERE key = ?", (_hash(key),)
        ).fetchone()
        return found


def _hash(key: Sequence[str]) -> bytes:
    return hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).digest()[:16]
