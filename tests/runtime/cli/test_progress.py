"""Progress in a real pseudo-terminal: it is shown, it is erased, and files never have it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.paths import EXAMPLES
from tests.runtime.cli.pseudo_terminal import run_in_terminal
from vlrun.embedded import FOLDER

pytestmark = pytest.mark.slow

SHELF = EXAMPLES / "shelf.png"
QUESTION = "How many bottles are there?"


def test_ask_shows_its_progress_and_leaves_only_the_answer(tmp_path: Path) -> None:
    """In a narrow terminal, with a model whose name has two columns a character."""
    model = tmp_path / "货架模型货架模型货架模型"
    model.symlink_to(FOLDER)
    done = run_in_terminal(["ask", "-m", model, SHELF, QUESTION], tmp_path, columns=20)
    assert (done.code, done.screen) == (0, ["6", ""])
    drawn = [part.split("\x1b")[0] for part in done.written.split("\r") if "\x1b[K" in part]
    assert "loading 货架模型货" in drawn
    assert max(map(len, drawn)) < 20


def test_nothing_is_shown_where_nobody_sees_it(tmp_path: Path) -> None:
    """A terminal as stdout does not make a file of stderr one; ``--no-progress`` is for those who do not want it."""
    done = run_in_terminal(["ask", "-m", FOLDER, SHELF, QUESTION, "--no-progress"], tmp_path)
    assert (done.code, done.written) == (0, "6\r\n")


def test_an_answer_in_a_file_has_its_progress_on_the_terminal(tmp_path: Path) -> None:
    with (tmp_path / "answer").open("wb") as file:
        done = run_in_terminal(["ask", "-m", FOLDER, SHELF, QUESTION, "--json"], tmp_path, stdout=file.fileno())
    assert (done.code, done.screen) == (0, [""])
    assert "loading " in done.written
    content = (tmp_path / "answer").read_bytes()
    assert content.startswith(b'{"answer": "6"')
    assert b"\x1b" not in content


def test_plan_shows_its_progress(tmp_path: Path) -> None:
    done = run_in_terminal(["plan", "-m", FOLDER, SHELF], tmp_path)
    assert done.code == 0
    assert "measuring " in done.written
    assert [line.split()[0] for line in done.screen if line] == "vlrun: image prompt memory load TTFT answer".split()


def test_serve_shows_its_progress_between_the_lines_of_its_log(tmp_path: Path) -> None:
    """No line of the log begins behind the progress, and it ends when the model is ready."""
    sent: list[None] = []

    def stop_when_ready(written: str, process: subprocess.Popen[bytes]) -> None:
        if " ready " in written and not sent:
            process.send_signal(signal.SIGINT)
            sent.append(None)

    done = run_in_terminal(
        ["serve", "-m", FOLDER, "--port", "0", "--kv-disk", "0"], tmp_path, columns=2000, on_output=stop_when_ready
    )
    assert "loading " in done.written
    assert [line.split()[2] for line in done.screen if line] == ["listening", "ready", "stopping"]


def test_ctrl_c_erases_the_progress(tmp_path: Path) -> None:
    sent: list[None] = []

    def interrupt(written: str, process: subprocess.Popen[bytes]) -> None:
        if "loading " in written and not sent:
            process.send_signal(signal.SIGINT)
            sent.append(None)

    done = run_in_terminal(["ask", "-m", FOLDER, SHELF, QUESTION], tmp_path, on_output=interrupt)
    assert done.code == 130
    assert [line for line in done.screen if line] == ["vlrun: interrupted"]  # click may end the line of ^C before
