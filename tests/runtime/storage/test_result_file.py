"""Results that grow row by row: nothing is lost, nothing is there twice."""

from __future__ import annotations

import csv
import errno
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrun.errors import OptionError, OutputError
from vlrun.storage.result_file import ResultFile

ANSWERS = st.text(st.characters(codec="utf-8"), max_size=30)
FORMATS = pytest.mark.parametrize("suffix", [".jsonl", ".csv"])


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: that takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def answer(file: str, text: str = "6", sha256: str = "aa") -> dict[str, Any]:
    return {"file": file, "answer": text, "notes": ["n1", "n2"], "sha256": sha256, "request": "r"}


def failure(file: str) -> dict[str, Any]:
    return {"file": file, "error": "it is damaged", "request": "r"}


def rows(path: Path) -> list[tuple[str, str]]:
    """File and answer or error of each row, read as a user would."""
    with path.open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]
    return [(row["file"], row.get("error") or row["answer"]) for row in read]


@FORMATS
def test_answers_are_found_by_file_content_and_request(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    for _ in range(2):  # a new file, and the file of an earlier run
        with ResultFile(path) as results:
            results.append(answer("a.png"))
            assert results.has_answer("a.png", "r", "aa")
            assert not results.has_answer("a.png", "r", "bb")
            assert not results.has_answer("b.png", "r", "aa")
            assert not results.has_answer("a.png", "other", "aa")
            copied = results.answer_of("r", "aa")
            assert copied is not None
            assert (copied["file"], copied["answer"]) == ("a.png", "6")
            assert results.answer_of("r", "bb") is None
    assert rows(path) == [("a.png", "6")]


@FORMATS
def test_whatever_was_written_is_read_again(tmp_path: Path, suffix: str) -> None:
    """With line ends, quotes, separators and names that are no UTF-8."""
    path = tmp_path / f"out{suffix}"
    strange = ['a "b", c\r\nd\n', "", "\u2028é", 'x"', "=1+1", os.fsdecode(b"\xff.png")]
    with ResultFile(path) as results:
        for number, text in enumerate(strange):
            results.append(answer(text or "empty", text, str(number)))
    with ResultFile(path) as results:
        for number, text in enumerate(strange):
            copied = results.answer_of("r", str(number))
            assert copied is not None
            assert (copied["file"], copied["answer"]) == (text or "empty", text)


@FORMATS
def test_a_row_that_was_cut_short_anywhere_is_removed(tmp_path: Path, suffix: str) -> None:
    """After a kill or a power failure; the header, too."""
    whole = tmp_path / f"whole{suffix}"
    with ResultFile(whole) as results:
        results.append(answer("a.png", 'one\r\n"two"', "1"))
        before = whole.stat().st_size
        results.append(answer("b.png", "three\n", "2"))
    content = whole.read_bytes()
    for end in range(len(content)):
        path = tmp_path / f"torn{suffix}"
        path.write_bytes(content[:end])
        with ResultFile(path) as results:
            assert results.has_answer("a.png", "r", "1") == (end >= before)
            results.append(answer("a.png", "one", "1"))
            results.append(answer("b.png", "three\n", "2"))
        assert [file for file, _ in rows(path)] == ["a.png", "b.png"]


@FORMATS
def test_errors_are_replaced_when_a_file_is_tried_again(tmp_path: Path, suffix: str) -> None:
    """The others stay: another run may have been about another folder."""
    path = tmp_path / f"out{suffix}"
    with ResultFile(path) as results:
        for row in (failure("a.png"), answer("b.png"), failure("c.png"), failure("d.png")):
            results.append(row)
    path.chmod(0o600)
    with ResultFile(path) as results:
        results.append(answer("a.png", "now", "1"))
        results.append(failure("c.png"))
        assert len(rows(path)) == 6  # nothing is removed before the new row is there
        results.compact()
        expected = [("b.png", "6"), ("d.png", "it is damaged"), ("a.png", "now"), ("c.png", "it is damaged")]
        assert rows(path) == expected
        results.append(answer("e.png", "last", "2"))
    assert rows(path) == [*expected, ("e.png", "last")]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_errors_that_a_killed_run_has_tried_again_are_replaced_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (failure("a.png"), answer("a.png"))))
    (tmp_path / ".out.jsonl.part").write_text("of a run that was killed while it replaced the file")
    ResultFile(path).close()
    assert rows(path) == [("a.png", "6")]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", "notes\n"), ("a.jsonl", "[]\n"), ("a.jsonl", '{"x": 1}\n'), ("a.csv", "x,y\n1,2\n"), ("a.csv", "x")],
)
def test_what_others_have_written_is_not_touched(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(OutputError, match="is no result of vlrun: choose another name"):
        ResultFile(path)
    assert path.read_text() == content


def test_other_suffixes_and_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"end '.*out\.json' in \.jsonl or \.csv"):
        ResultFile(tmp_path / "out.json")
    for place in (tmp_path / "nowhere" / "out.csv", tmp_path / "out.csv"):
        (tmp_path / "out.csv").mkdir(exist_ok=True)
        with pytest.raises(OutputError, match="cannot write"):
            ResultFile(place)


def test_two_runs_cannot_write_the_same_file(tmp_path: Path) -> None:
    with ResultFile(tmp_path / "out.jsonl"), pytest.raises(OutputError, match="another vlrun is writing"):
        ResultFile(tmp_path / "out.jsonl")
    ResultFile(tmp_path / "out.jsonl").close()


def test_a_full_disk_keeps_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "out.jsonl"
    with ResultFile(path) as results:
        results.append(answer("a.png", sha256="1"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", no_space)
            with pytest.raises(OutputError, match="No space left"):
                results.append(answer("b.png", sha256="2"))
        assert not results.has_answer("b.png", "r", "2")
        results.append(answer("c.png", sha256="3"))
    assert [file for file, _ in rows(path)] == ["a.png", "c.png"]


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    tracemalloc.start()
    try:
        with ResultFile(path) as results:
            for number in range(1000):
                results.append(answer(f"{number}.png", sha256=str(number)))
        ResultFile(path).close()
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@settings(max_examples=12)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), ANSWERS, st.booleans()), max_size=8), st.sampled_from([".jsonl", ".csv"])
)
def test_every_answer_is_there_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, tried: list[tuple[str, str, bool]], suffix: str
) -> None:
    """Whatever fails and is tried again."""
    path = tmp_path_factory.mktemp("results") / f"out{suffix}"
    for file, text, succeeds in tried:
        with ResultFile(path) as results:
            results.append(answer(file, text) if succeeds else failure(file))
    found = rows(path) if tried else []
    for file in "abc":
        own = [succeeds for name, _, succeeds in tried if name == file]
        answers = [text for name, text in found if name == file and text != "it is damaged"]
        first = next((text for name, text, succeeds in tried if name == file and succeeds), None)
        assert len(answers) == any(own)
        assert answers in ([], [first])
