"""Rows that are only appended."""

from __future__ import annotations

import json
import os
import resource
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrun.errors import OptionError, OutputError
from vlrun.storage.row_log import RowLog


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: that takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def row(number: int) -> dict[str, object]:
    return {"time": f"{number:03}", "answer": "6\n", "camera": "ä"}


def test_later_runs_append_and_equal_rows_stay(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for _ in range(2):
        with RowLog(path, "time") as log:
            log.append(row(1))
            log.append(row(1))
    assert rows(path) == [row(1)] * 4


@given(st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_a_row_that_was_cut_in_half_is_removed(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("log") / "out.jsonl"
    with RowLog(path, "time") as log:
        for number in range(3):
            log.append(row(number))
    whole = path.read_bytes()
    path.write_bytes(whole[: max(len(whole) - cut, 0)])
    complete = path.read_bytes().count(b"\n")
    with RowLog(path, "time") as log:
        log.append(row(9))
    assert rows(path) == [*map(row, range(complete)), row(9)]


@pytest.mark.parametrize("content", [b"hello", b"hello\n", b'{"file": "a.png"}\n', b"[]\n", b"\n", b'{"time"x'])
def test_foreign_files_stay_as_they_are(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="exists and is no result of vlrun"):
        RowLog(path, "time")
    assert path.read_bytes() == content


def test_another_process_and_other_suffixes(tmp_path: Path) -> None:
    with RowLog(tmp_path / "out.jsonl", "time"), pytest.raises(OutputError, match="another vlrun is writing"):
        RowLog(tmp_path / "out.jsonl", "time")
    with pytest.raises(OptionError, match=r"end '.*out.csv' in .jsonl"):
        RowLog(tmp_path / "out.csv", "time")
    with pytest.raises(OutputError, match="there is no folder"):
        RowLog(tmp_path / "none" / "out.jsonl", "time")


def test_a_full_disk_leaves_no_half_row(tmp_path: Path) -> None:
    """A limit for the size of files stands for the disk: half of the row can be written."""
    path = tmp_path / "out.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RowLog(path, "time") as log:
        log.append(row(1))
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
            with pytest.raises(OutputError, match="File too large"):
                log.append(row(2))
            assert rows(path) == [row(1)]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        log.append(row(3))
    assert rows(path) == [row(1), row(3)]


def test_memory_does_not_grow(tmp_path: Path) -> None:
    with RowLog(tmp_path / "out.jsonl", "time") as log:
        log.append(row(0))
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2000):
            log.append(row(number))
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    assert grown < 5000
