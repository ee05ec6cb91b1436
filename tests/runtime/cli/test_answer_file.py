"""``--output``: whole answers in a file, or on stdout if it cannot be written."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.paths import EXAMPLES
from tests.runtime.cli.command_line import vlrun
from tests.runtime.cli.recording_line import RecordingLine
from tests.scripted_vlm import INSTRUCT_TEMPLATE, ScriptedVLM
from vlrun.cli.answer_file import stdout_to
from vlrun.cli.ask import ask
from vlrun.cli.options import ModelOptions
from vlrun.errors import OutputError


def test_the_file_has_whole_answers_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.txt"
    with stdout_to(path) as save:
        save()
        assert not path.exists()  # nothing was printed: an error comes first
        click.echo("六")
        save()
        assert path.read_text("utf-8") == "六\n"
        click.echo("half of the second", nl=False)
        assert path.read_text("utf-8") == "六\n"
        click.echo()
        save()
    assert path.read_text("utf-8") == "六\nhalf of the second\n"
    assert capsys.readouterr() == ("", f"vlrun: wrote '{path}'\n")


def test_an_interrupted_answer_leaves_the_complete_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.txt"
    with contextlib.suppress(KeyboardInterrupt), stdout_to(path) as save:
        click.echo("six")
        save()
        click.echo("hal", nl=False)
        raise KeyboardInterrupt
    assert path.read_text() == "six\n"
    assert capsys.readouterr().out == ""


def test_answers_that_cannot_be_written_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with stdout_to(folder / "out.txt") as save:
        click.echo("six")
        shutil.rmtree(folder)
        with pytest.raises(OutputError, match="cannot write"):
            save()
    assert capsys.readouterr().out == "six\n"


def test_such_answers_fit_the_encoding_of_stdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stdout without Chinese characters lost the answer and ended in an internal error."""
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, "latin-1"))
    folder = tmp_path / "folder"
    folder.mkdir()
    with stdout_to(folder / "out.txt") as save:
        click.echo("六 six")
        shutil.rmtree(folder)
        with pytest.raises(OutputError, match="cannot write"):
            save()
    assert printed.getvalue() == b"? six\n"


def test_without_a_file_stdout_is_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with stdout_to(None) as save:
        click.echo("six")
        assert capsys.readouterr().out == "six\n"
        save()


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordingLine:
    """Let `vlrun ask` answer "six" in an empty working directory, and return its progress line."""
    line, vlm = RecordingLine(), ScriptedVLM(INSTRUCT_TEMPLATE)
    vlm.write("six")
    monkeypatch.setattr(ModelOptions, "progress_line", lambda _: line)
    monkeypatch.setattr(ModelOptions, "load", lambda *_, **__: vlm)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return line


@pytest.mark.parametrize("target", [(), ("-o", "-"), ("--output", "-"), ("-o", "out.txt")], ids=" ".join)
def test_progress_is_shown_until_the_answer_is_printed(target: tuple[str, ...], line: RecordingLine) -> None:
    """While an answer for a file was collected, nothing was shown; `-o -` wrote a file of that name."""
    done = CliRunner().invoke(ask, [str(EXAMPLES / "shelf.png"), "How many?", *target])
    written = [(path.name, path.read_text()) for path in Path().iterdir()]
    is_file = target[1:] == ("out.txt",)
    assert (done.exit_code, done.stdout, written) == (0, *(("", [("out.txt", "six\n")]) if is_file else ("six\n", [])))
    assert ("answering: 0 s" in line.shown) == is_file


def test_progress_is_shown_while_stdout_is_a_file(line: RecordingLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended with the first word, although nobody sees the words."""
    monkeypatch.setattr("vlrun.cli.ask.stdout_is_file", lambda: True)
    assert CliRunner().invoke(ask, [str(EXAMPLES / "shelf.png"), "How many?"]).stdout == "six\n"
    assert "answering: 0 s" in line.shown


@pytest.mark.slow
def test_answers_to_a_file_with_a_system_prompt(tmp_path: Path) -> None:
    """The second run refuses the file before the model is loaded, and so does an input of the same name."""
    out = tmp_path / "out.jsonl"
    questions = ("-q", "How many bottles are there?", "-q", "Is there a red bag?")
    arguments = ("ask", EXAMPLES / "shelf.png", *questions, "--system", "Be brief.", "--json", "-o", out)
    done = vlrun(*arguments, home=tmp_path)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [answer["question"] for answer in answers] == ["How many bottles are there?", "Is there a red bag?"]
    assert all(answer["answer"] for answer in answers)
    again = vlrun(*arguments, home=tmp_path, VLRUN_MODEL="/no/such")
    assert again.returncode == 8
    assert b"exists" in again.stderr
    assert [json.loads(line) for line in out.read_text().splitlines()] == answers


def test_an_image_is_not_overwritten(tmp_path: Path) -> None:
    image = shutil.copy(EXAMPLES / "shelf.png", tmp_path)
    done = vlrun("ask", image, "-o", image, home=tmp_path)
    assert done.returncode == 2
    assert b"would be overwritten" in done.stderr
