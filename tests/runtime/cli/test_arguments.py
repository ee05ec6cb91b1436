"""Splitting positional arguments into images and a question."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlrun.cli.arguments import CLIPBOARD, split_arguments
from vlrun.errors import OptionError


@pytest.mark.parametrize(
    ("arguments", "images", "question"),
    [
        (["a.png", "How many?"], ["a.png"], "How many?"),
        (["a.png", "b.jpg"], ["a.png", "b.jpg"], None),
        (["a.png", "What is on label.jpg"], ["a.png"], "What is on label.jpg"),
        (["a.png", "-"], ["a.png", "-"], None),
        (["a.png", "word " * 5000], ["a.png"], "word " * 5000),
        (["a.png", "a\0b"], ["a.png"], "a\0b"),
    ],
)
def test_the_last_argument_is_the_question_unless_it_is_an_image(
    arguments: list[str], images: list[str], question: str | None
) -> None:
    assert split_arguments(arguments) == (images, [question])


def test_a_missing_file_is_not_the_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names with spaces were questions: without a folder they may be, and a note says so."""
    missing = str(tmp_path / "my photo.JPG")
    assert split_arguments(["a.png", missing]) == (["a.png", missing], [None])
    assert capsys.readouterr().err == ""
    assert split_arguments(["a.png", "my photo.JPG"]) == (["a.png"], ["my photo.JPG"])
    assert capsys.readouterr().err == "vlrun: there is no file 'my photo.JPG', so it is taken for the question\n"


def test_an_existing_file_is_an_image(tmp_path: Path) -> None:
    photo = tmp_path / "photo"
    photo.touch()
    assert split_arguments([str(photo)]) == ([str(photo)], [None])


def test_a_pipe_or_a_file_url_is_an_image(tmp_path: Path) -> None:
    """A shell passes a process substitution as a pipe: /dev/fd/63."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for word in (str(pipe), "file:///a%20b", "FILE:/a"):
        assert split_arguments([word]) == ([word], [None])
    assert split_arguments([str(pipe), str(tmp_path)]) == ([str(pipe)], [str(tmp_path)])  # a folder is a word


def test_a_url_and_the_clipboard_are_images() -> None:
    assert split_arguments(["https://example.org/a", "What?"]) == (["https://example.org/a"], ["What?"])
    assert split_arguments(["HTTPS://example.org/a"]) == (["HTTPS://example.org/a"], [None])
    assert split_arguments(["What?"], clipboard=True) == ([CLIPBOARD], ["What?"])
    assert split_arguments(["a.png"], clipboard=True) == ([CLIPBOARD, "a.png"], [None])
    assert split_arguments([], clipboard=True) == ([CLIPBOARD], [None])


def test_with_each_folders_and_patterns_that_match_are_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question often ends in "?", which is a pattern, and may have a slash."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "a.jpg").touch()
    for word in ("pics", "pics/", "missing/", "pics/*", "pics/?.jpg", "*.png"):
        assert split_arguments([word], folders=True) == ([word], [None])
    for question in ("How many?", "red/blue?", "[yes or no]", "pic"):
        assert split_arguments(["pics", question], folders=True) == (["pics"], [question])
    with pytest.raises(OptionError, match="no image given"):
        split_arguments(["pics"])


def test_with_question_options_every_argument_is_an_image() -> None:
    assert split_arguments(["a", "b"], ["How many?", "Where?"]) == (["a", "b"], ["How many?", "Where?"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no image given: name a file"),
        (["How many?"], "neither a file"),
        (["a.png", " "], "empty"),
        (["-", "-", "x"], "stdin"),
    ],
)
def test_arguments_without_an_image_or_question_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        split_arguments(arguments)
