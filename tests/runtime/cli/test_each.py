"""``vlrun ask --each``: rows, errors, and runs that are killed and continued."""

from __future__ import annotations

import collections
import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.paths import EXAMPLES
from tests.runtime.cli.command_line import command
from tests.runtime.cli.conftest import RunHere
from vlrun.cli.ask import ask
from vlrun.errors import AnswerCutShort, UnsupportedMedia, VlrunError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_model")]

QUESTION = "How many bottles are there?"
GOOD, BROKEN = 20, 2


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_each_image_gets_a_row_and_a_broken_one_an_exit_code(run_here: RunHere, tmp_path: Path) -> None:
    """A copy gets the answer of its original. A second run has nothing to do but to try the broken one again."""
    (tmp_path / "pics").mkdir()
    for name in ("shelf.png", "copy.png"):
        (tmp_path / "pics" / name).write_bytes((EXAMPLES / "shelf.png").read_bytes())
    (tmp_path / "pics" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    out = tmp_path / "out.jsonl"
    for earlier in ("", r" (2 were there already)"):
        done = run_here("ask", "--each", tmp_path / "pics", QUESTION, "-o", out)
        assert done.returncode == 3
        assert f"2 of 3 answered in '{out}'{earlier}, 1 failed\n" in done.stderr.decode()
        assert "vlrun: 1 of 3 have no answer; the first: '" in done.stderr.decode()
        assert done.stdout == b""
        found = {Path(row["file"]).name: row for row in rows(out)}
        assert len(rows(out)) == len(found) == 3
        assert found["shelf.png"]["answer"] == found["copy.png"]["answer"] == "6"
        assert found["shelf.png"]["question"] == QUESTION
        assert found["shelf.png"]["sha256"] == found["copy.png"]["sha256"]
        assert "broken.jpg" in found["broken.jpg"]["error"]


def test_several_questions_as_csv_and_on_stdout(run_here: RunHere, tmp_path: Path) -> None:
    pattern, out = EXAMPLES / "shelf*.png", tmp_path / "out.csv"
    arguments = ("ask", "--each", pattern, "-q", QUESTION, "-q", "Is there a red bag?")
    assert run_here(*arguments, "-o", out).returncode == 0
    with out.open(newline="", encoding="utf-8") as file:
        written = {(Path(row["file"]).name, row["question"]): row["answer"] for row in csv.DictReader(file)}
    printed = [json.loads(line) for line in run_here(*arguments, "--json").stdout.splitlines()]
    assert {(Path(row["file"]).name, row["question"]): row["answer"] for row in printed} == written
    assert written["shelf.png", QUESTION] == "6"
    assert len(printed) == len(written) == 4


def test_json_that_is_cut_short_is_an_error_with_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--each", str(EXAMPLES / "shelf.png"), "--task", "count", "--max-tokens", "3", "--json")
    with pytest.raises(AnswerCutShort, match="cut short before its JSON was complete"):
        ask.main(arguments, standalone_mode=False)
    row = json.loads(capsys.readouterr().out)
    assert "cut short before its JSON was complete" in row["error"]
    assert row["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--each", "nowhere/"), 3, "no such file or folder: 'nowhere/'"),
        (("--each", "."), 3, "there are no images in '.'"),
        (("--each", "*.xyz.png"), 3, "no file matches"),
        (("--each", "-"), 2, "no stdin, no clipboard, no URL"),
        (("--recursive", EXAMPLES / "shelf.png"), 2, "--recursive needs --each"),
        (("--each", EXAMPLES, "--stats"), 2, "leave them out with --each"),
        (("--each", EXAMPLES, "--task", "compare"), 2, "needs at least 2 images"),
        (("--each", EXAMPLES, "-o", "out.txt"), 2, "end 'out.txt' in .jsonl or .csv"),
        (("--each", EXAMPLES, "--schema", '{"type": "strnig"}'), 2, "schema"),
    ],
)
def test_wrong_arguments_end_before_the_first_answer(
    arguments: tuple[str | Path, ...],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VlrunError, match=message) as caught:
        ask.main([str(word) for word in arguments], standalone_mode=False)
    assert caught.value.exit_code == code
    assert capsys.readouterr().out == ""


def test_text_has_a_line_for_each_answer_in_order_and_errors_on_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    images = [str(path) for path in (EXAMPLES / "shelf_two.png", tmp_path / "broken.jpg", EXAMPLES / "shelf.png")]
    with pytest.raises(UnsupportedMedia, match="1 of 3 have no answer"):
        ask.main(["--each", *images, QUESTION], standalone_mode=False)
    printed = capfd.readouterr()
    assert printed.out == f"{images[0]}: 3\n{images[2]}: 6\n"
    assert f"vlrun: '{images[1]}' is not an image" in printed.err
    assert "vlrun: 2 of 3 answered, 1 failed\n" in printed.err


@pytest.mark.timeout(300)
def test_a_run_that_is_killed_twice_answers_every_image_once(tmp_path: Path, run_here: RunHere) -> None:
    """With kill -9 and with Ctrl+C; the file is cut in the middle of a row once, as a power failure may leave it."""
    folder, out = tmp_path / "pics", tmp_path / "out.jsonl"
    folder.mkdir()
    for number in range(GOOD):
        Image.new("RGB", (64 + number, 64), (7 * number, 0, 0)).save(folder / f"{number:02}.png")
    for number in range(BROKEN):
        (folder / f"broken_{number}.jpg").write_bytes(b"\xff\xd8\xff" + bytes([number]))
    arguments = ("ask", "--each", folder, "Describe this image.", "--max-tokens", "20", "-o", out)
    answered = 0
    for stop in (signal.SIGKILL, signal.SIGINT):
        line, environment = command(arguments, tmp_path)
        with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE) as process:
            while process.poll() is None and _answers(out) < answered + 3:
                time.sleep(0.01)
            process.send_signal(stop)
            errors = process.communicate()[1].decode()
        if stop == signal.SIGINT and process.returncode == 130:
            assert "the same command continues" in errors
        before, answered = answered, _answers(out)
        assert answered > before
        out.write_bytes(out.read_bytes()[: -10 if stop == signal.SIGINT else None])
    done = run_here(*arguments)
    assert done.returncode == 3
    files = collections.Counter(Path(row["file"]).name for row in rows(out))
    assert files == collections.Counter(path.name for path in folder.iterdir())
    assert sum("answer" in row for row in rows(out)) == GOOD


def _answers(out: Path) -> int:
    return out.read_bytes().count(b'"answer"') if out.exists() else 0


@pytest.mark.timeout(60)
def test_files_that_never_end_or_may_not_be_read_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_here: RunHere
) -> None:
    """A pipe blocked, whose name was that of an image. Names that are no UTF-8, and links in a circle."""
    strange = [b"a\n.png", b"-b.png", b"\xff.png"]
    for name in strange:
        (tmp_path / os.fsdecode(name)).write_bytes((EXAMPLES / "shelf.png").read_bytes())
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "up").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = run_here("ask", "--each", ".", QUESTION, "--recursive", "--json")
    assert done.returncode == 3
    found = {os.fsencode(Path(row["file"]).name): row for row in map(json.loads, done.stdout.splitlines())}
    assert len(found) == 6
    assert {found[name].get("answer") for name in strange} == {"6"}
    assert "it is not a regular file" in found[b"pipe.png"]["error"]
    assert "it is not a regular file" in found[b"zero.png"]["error"]
    assert "Too many levels of symbolic links" in found[b"circle.png"]["error"]
