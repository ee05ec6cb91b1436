"""Files that grow row by row. A row is on the disk before the next one is written; one process at a time writes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

from vlrun.errors import OptionError, OutputError
from vlrun.storage.locked_file import append_bytes, open_locked
from vlrun.storage.output_file import check_writable, reason, resolve_links

Row: TypeAlias = Mapping[str, Any]
MAX_ROW_BYTES = 16 * 2**20
"""Of a row that is read: the longest answer has 2 MB."""
COLUMNS = ("file", "answer", "error", "finish_reason", "notes", "question", "model", "sha256", "request")
"""Of a CSV file."""


class Format(Protocol):
    """How rows are written."""

    name: str
    header: bytes

    def is_complete(self, line: bytes) -> bool:
        """Return whether a line that ends in a line end is a whole row."""

    def encode(self, row: Row) -> bytes:
        """Return a row with its line end."""

    def decode(self, line: bytes) -> Row:
        """Return a row. Raises ValueError."""


class JsonLines:
    """One JSON object per line; file names that are no UTF-8 are escaped."""

    name = "JSON lines"
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

    name = "CSV"
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


JSON_LINES = ".jsonl"
FORMATS: Mapping[str, Format] = {JSON_LINES: JsonLines(), ".csv": CsvRows()}


class RowFile(ABC):
    """A file of rows, open for this process only.

    Args:
        path: A new file, or one of an earlier run. The suffix chooses the format.
        suffixes: Those of ``FORMATS`` that are possible.

    Raises:
        OptionError: It has another suffix.
        OutputError: The file holds something else, is being written by another process, or cannot be written.
    """

    def __init__(self, path: Path, suffixes: Collection[str]) -> None:
        suffix = path.suffix.lower()
        if suffix not in suffixes:
            kinds = " or ".join(FORMATS[one].name for one in suffixes)
            raise OptionError(f"the answers are written as {kinds}: end '{path}' in {' or '.join(suffixes)}")
        self._format = FORMATS[suffix]
        self._name = os.fspath(path)
        check_writable(self._name)
        self._path = resolve_links(self._name)
        with self._errors():
            self._file = open_locked(self._path, self._name)
        try:
            with self._errors():
                self._begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @abstractmethod
    def append(self, row: Row) -> None:
        """Write a row to the disk. Raises OutputError."""

    @abstractmethod
    def _begin(self) -> None:
        """Check what an earlier run has written, and remove a last row that is incomplete."""

    def _write(self, row: Row) -> int:
        """Write a row to the disk, or nothing, and return its offset. Raises OSError."""
        return append_bytes(self._file, self._format.encode(row))

    def _foreign(self, what: str) -> OutputError:
        return OutputError(f"{what} no result of vlrun: choose another name")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write '{self._name}': {reason(error)}") from error
