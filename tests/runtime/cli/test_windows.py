"""``vlrun ask --window``: timed lines, rows that can be continued, and one error for what is no video."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.paths import EXAMPLES
from vlrun.cli import windows as windows_module
from vlrun.cli.ask import ask
from vlrun.errors import DamagedMedia, MediaNotFound, OptionError, VlrunError
from vlrun.tasks.windows import answer_window

pytest.importorskip("av", reason="the extra video is not installed")

from tests.streams import FPS, clip

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_model")]

QUESTION = "What happens?"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "long.ts"
    path.write_bytes(b"".join(clip(6 * FPS)))
    return path


def run(*arguments: object) -> None:
    ask.main([*map(str, arguments), "--max-tokens", "8"], standalone_mode=False)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_line_for_each_window_and_a_summary(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(video, QUESTION, "--window", "2")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("[", "Summary"))]
    assert [line.partition(" ")[0] for line in lines] == ["[0:00-0:02]", "[0:02-0:04]", "[0:04-0:06]", "Summary:"]


def test_json_has_the_times(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(video, QUESTION, "--window", "3", "--json")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["start"], row["end"], row.get("summary", False)) for row in found] == [
        (0, 3, False),
        (3, 6, False),
        (0, 6, True),
    ]
    assert all(row["file"] == str(video) and "answer" in row for row in found)
    assert not any({"sha256", "request"} & set(row) for row in found)  # which are for files that are continued


def test_a_run_can_be_continued(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    run(video, "-q", QUESTION, "-q", "What is this?", "--window", "2", "-o", out)
    whole = rows(out)
    assert len(whole) == 2 * (3 + 1)
    assert "6 of 6 windows answered in" in capsys.readouterr().err
    second = next(row for row in whole if row["question"] == "What is this?")
    assert second["usage"]["cached_tokens"] > second["usage"]["image_tokens"]  # the prefix of the first question
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    run(video, "-q", QUESTION, "-q", "What is this?", "--window", "2", "-o", out)
    assert "6 of 6 windows answered in" in (errors := capsys.readouterr().err)
    assert "(3 were there already)" in errors
    assert sorted(row["request"] for row in rows(out)) == sorted(row["request"] for row in whole)
    before = out.read_bytes()
    run(video, "-q", QUESTION, "-q", "What is this?", "--window", "2", "-o", out)
    assert out.read_bytes() == before
    run(video, QUESTION, "--window", "3", "-o", out)
    assert len(rows(out)) == len(whole) + 3


def test_a_window_without_an_answer_is_a_row_and_an_exit_code(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out = answer_window, tmp_path / "out.jsonl"

    def answer(vlm: Any, part: Any, *given: Any) -> Any:
        if part.video.start == 2:
            raise DamagedMedia("no frame")
        return real(vlm, part, *given)

    monkeypatch.setattr(windows_module, "answer_window", answer)
    with pytest.raises(DamagedMedia, match="no frame"):
        run(video, QUESTION, "--window", "2", "-o", out)
    found = rows(out)
    assert [row.get("error") for row in found] == [None, "no frame", None, None]
    assert (found[1]["start"], found[1]["end"]) == (2, 4)
    monkeypatch.setattr(windows_module, "answer_window", real)
    run(video, QUESTION, "--window", "2", "-o", out)
    assert not any("error" in row for row in rows(out))
    assert [row["end"] for row in rows(out) if "summary" in row] == [6, 6]


def test_a_file_that_cannot_be_opened_is_not_called_an_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaNotFound, match=r"cannot open '.*pipe.mp4': it is not a regular file"):
        run(tmp_path / "pipe.mp4", QUESTION, "--window", "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((EXAMPLES / "shelf.png", QUESTION, "--window", "60"), "--window is for videos, and '.*shelf.png' is none"),
        ((EXAMPLES / "shelf.png", EXAMPLES / "shelf.png", "--window", "60"), "--window takes one video"),
        (("-", QUESTION, "--window", "60"), "--window takes one video, which is a file"),
        ((EXAMPLES / "shelf.png", QUESTION, "--window", "60", "--each"), "exclude each other"),
        ((EXAMPLES / "shelf.png", QUESTION, "--window", "60", "--stats"), "leave them out with --window"),
        ((EXAMPLES / "ball.mp4", QUESTION, "--window", "60", "-o", "x.csv"), r"end 'x.csv' in .jsonl"),
        ((EXAMPLES / "shelf.png", "--task", "compare", "--window", "60"), "at least 2 images"),
    ],
)
def test_wrong_arguments(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(VlrunError, match=message) as caught:
        run(*arguments)
    assert isinstance(caught.value, OptionError)
