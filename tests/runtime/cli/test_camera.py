"""``vlrun ask --camera``: lines and rows with times, errors, and Ctrl+C."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.cli.command_line import command
from vlrun.cli.ask import ask
from vlrun.errors import AnswerCutShort, MediaNotFound, VlrunError
from vlrun.media import camera_reader

pytest.importorskip("av", reason="the extra video is not installed")

from tests.streams import USER, StreamServer, clip

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_model")]

QUESTION = "How many bottles are there?"
ONE_BY_ONE = ("--every", "0")


@pytest.fixture(scope="module")
def server() -> Iterator[StreamServer]:
    serving = StreamServer()
    frames = clip(200)
    serving.add("/live", [b"".join(frames[:60]), *frames[60:]], wait=0.2, silent=True)
    serving.parts["/private"] = serving.parts["/live"]
    serving.add("/short", frames[:60])
    yield serving
    serving.close()


def run(*arguments: object) -> None:
    ask.main([*map(str, arguments)], standalone_mode=False)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_with_times(server: StreamServer, capsys: pytest.CaptureFixture[str]) -> None:
    run("--camera", f"http://127.0.0.1:{server.port}/live", QUESTION, "--limit", "2", *ONE_BY_ONE)
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert len(lines) == 2
    for line in lines:
        day, at, answer = line.split(maxsplit=2)
        moment = datetime.fromisoformat(f"{day} {at}")
        assert abs(datetime.now() - moment) < timedelta(minutes=5)
        assert answer
    assert f"vlrun: 2 answers about 'http://127.0.0.1:{server.port}/live'\n" in printed.err


def test_rows_without_a_password(server: StreamServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, name = tmp_path / "out.jsonl", f"127.0.0.1:{server.port}/private"
    for _ in range(2):  # a second run appends
        arguments = ("-q", QUESTION, "-q", "What is this?", "--limit", "1", "-o", out, *ONE_BY_ONE)
        run("--camera", f"http://{USER}@{name}", *arguments)
    found = rows(out.read_text())
    assert [row["question"] for row in found] == [QUESTION, "What is this?"] * 2
    assert {row["camera"] for row in found} == {f"http://{name}"}
    assert all(datetime.fromisoformat(row["time"]).tzinfo for row in found)
    assert all("answer" in row and "usage" in row for row in found)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "s3cret" not in printed.err + out.read_text()


def test_tasks_schemas_and_parts_of_the_image(server: StreamServer, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{server.port}/live"
    region = ("--region", "0,0,32,32", "--json")
    run("--camera", url, "--task", "count", "--items", "bottle", "--limit", "1", *region, *ONE_BY_ONE)
    (row,) = rows(capsys.readouterr().out)
    assert set(json.loads(row["answer"])) == {"items", "total"}
    run("--camera", url, QUESTION, "--votes", "2", "--limit", "1", "--json", *ONE_BY_ONE)
    (row,) = rows(capsys.readouterr().out)
    assert row["answers"] == 2


def test_an_answer_that_is_cut_short_is_an_error_of_its_frame(
    server: StreamServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{server.port}/live"
    with pytest.raises(AnswerCutShort, match="cut short before its JSON was complete"):
        run("--camera", url, "--task", "count", "--max-tokens", "3", "--json", "--limit", "2", *ONE_BY_ONE)
    found = rows(capsys.readouterr().out)
    assert ["error" in row for row in found] == [True, True]


def test_only_frames_that_changed(server: StreamServer, capsys: pytest.CaptureFixture[str]) -> None:
    run("--camera", f"http://127.0.0.1:{server.port}/live", QUESTION, "--limit", "2", "--on-change")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_interruption_is_a_row_and_the_stream_goes_on(
    server: StreamServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(camera_reader, "FIRST_RETRY_SECONDS", 0.01)
    out, url = tmp_path / "out.jsonl", f"http://127.0.0.1:{server.port}/short"
    run("--camera", url, QUESTION, "--limit", "3", "-o", out, *ONE_BY_ONE)
    found = rows(out.read_text())
    assert sum("answer" in row for row in found) == 3
    errors = [row for row in found if "error" in row]
    assert errors
    assert errors[0]["error"] == f"the stream of '{url}' has ended; trying again until it works"
    assert f"vlrun: {errors[0]['error']}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--camera", "/dev/video99"), 3, "there is no camera '/dev/video99'"),
        (("--camera", "clip.mp4"), 2, "a camera is a device such as /dev/video0, or an rtsp"),
        (("--camera", "file:///etc/passwd"), 2, "not of the kind 'file'"),
        (("--camera", "rtsp://cam/live", "a.png", "What?"), 2, "--camera takes no images, only a question"),
        (("--camera", "rtsp://cam/live", "a.png", "-q", "What?"), 2, "--camera takes no images, only a question"),
        (("--camera", "rtsp://cam/live", " "), 2, "the question is empty"),
        (("--camera", "rtsp://cam/live", "--each"), 2, "exclude each other"),
        (("--camera", "rtsp://cam/live", "--stats"), 2, "leave them out with --camera"),
        (("--camera", "rtsp://cam/live", "--pages", "1"), 2, "leave out --pages"),
        (("--camera", "rtsp://cam/live", "--fps", "1"), 2, "--fps is for videos, and none is given"),
        (("--camera", "rtsp://cam/live", "-o", "x.csv"), 2, r"end 'x.csv' in .jsonl"),
        (("--camera", "rtsp://cam/live", "--task", "compare"), 2, "at least 2 images"),
        (("--every", "5", "a.png"), 2, "need --camera"),
        (("--on-change", "a.png"), 2, "need --camera"),
    ],
)
def test_wrong_arguments_end_before_the_model_is_loaded(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VlrunError, match=message) as caught:
        run(*arguments)
    assert caught.value.exit_code == code


def test_a_camera_that_is_not_there(server: StreamServer) -> None:
    with pytest.raises(MediaNotFound, match="does not exist: the camera has no stream of this path"):
        run("--camera", f"http://127.0.0.1:{server.port}/none", QUESTION)


def test_ctrl_c_ends_with_all_rows(server: StreamServer, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    url = f"http://{USER}@127.0.0.1:{server.port}/live"
    line, environment = command(("ask", "--camera", url, QUESTION, "-o", out, *ONE_BY_ONE), tmp_path)
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None and (not out.exists() or out.read_bytes().count(b'"answer"') < 2):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed == b""
    found = [row for row in rows(out.read_text()) if "answer" in row]
    assert f"vlrun: {len(found)} answers about 'http://127.0.0.1:{server.port}/live' in '{out}'" in errors.decode()
    assert errors.decode().endswith("vlrun: interrupted\n")
    assert b"s3cret" not in errors
