"""``vlrun chat``: its commands, multi-line questions, Ctrl+C in a real terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.paths import EXAMPLES, RUNTIME
from vlrun.embedded import FOLDER

pytestmark = pytest.mark.slow

CHAT = [sys.executable, "-m", "vlrun.cli", "chat", "--temperature", "0", "--kv-disk", "0"]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(RUNTIME), "HOME": str(home), "XDG_CACHE_HOME": str(home)}


def piped(*arguments: str, lines: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CHAT, *arguments],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment(home),
    )


def test_every_chat_command(tmp_path: Path) -> None:
    """Only answers go to stdout."""
    lines = f"""
How many bottles are there?
/image {EXAMPLES / "price_tag.png"}
/save {tmp_path / "chat.json"}
/clear
/load {tmp_path / "chat.json"}
/stats
/region 0,0,300,300
/task count bottle,can
/nonsense
/image "nowhere.png"
/task nothing
/region x
/load nowhere.json
/help
/exit
never read
"""
    done = piped(str(EXAMPLES / "shelf.png"), lines=lines, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "6"
    assert '"items": {"bottle": ' in done.stdout.splitlines()[1]
    assert len(done.stdout.splitlines()) == 2
    for note in (
        "added to the next question: 640 x 640",
        "saved 2 turns",
        "started a new conversation",
        "loaded 2 turns",
        "TTFT",
        "300 x 300",
        "there is no command /nonsense",
        "no such image: 'nowhere.png'",
        "there is no task 'nothing'",
        "/region",
        "cannot read 'nowhere.json'",
        "/image FILE...",
    ):
        assert note in done.stderr, note


def test_multi_line_questions(tmp_path: Path) -> None:
    """A backslash at the end, and triple quotes."""
    lines = 'Copy this text:\\\nSALE 12\n/clear\n"""Copy this text:\nSALE 12\n3 red boxes $4.50\n"""\n'
    done = piped(lines=lines, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "SALE 12\nSALE 12\n3 red boxes $4.50\n"


def test_a_question_that_fails_keeps_its_image(tmp_path: Path) -> None:
    """The second question is too long; the next one must still have its image."""
    lines = (
        f"How many bottles are there?\n/image {EXAMPLES / 'price_tag.png'}\n{'word ' * 5000}\nHow many cans?\n/stats\n"
    )
    done = piped(str(EXAMPLES / "shelf.png"), lines=lines, home=tmp_path)
    assert "the context is" in done.stderr
    assert "128 visual tokens" in done.stderr


def test_a_task_in_a_chat_behaves_as_in_ask(tmp_path: Path) -> None:
    """The total is corrected, and a task for two images refuses one."""
    done = piped(str(EXAMPLES / "shelf.png"), lines="/task compare\n/task count bottle,can\n", home=tmp_path)
    counted = json.loads(done.stdout)
    assert counted["total"] == sum(counted["items"].values())
    assert "at least 2 images" in done.stderr


def test_a_chat_that_cannot_start_exits(tmp_path: Path) -> None:
    """A missing image, and a closed stdin."""
    done = piped("nowhere.png", lines="How many?\n", home=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    closed = subprocess.run(["sh", "-c", f"{sys.executable} -m vlrun.cli chat <&-"], capture_output=True, check=False)
    assert closed.returncode == 2
    assert b"stdin is closed" in closed.stderr


def test_an_open_block_ends_at_end_of_input(tmp_path: Path) -> None:
    assert piped(lines='"""Copy this text:\nSALE 12', home=tmp_path).stdout == "SALE 12\n"


class Terminal:
    """A chat in a pseudo-terminal."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.output = ""
        self.process, self._main = self._start(home, arguments)

    def _start(self, home: Path, arguments: tuple[str, ...]) -> tuple[subprocess.Popen[bytes], int]:
        main, other = pty.openpty()
        settings = environment(home) | {"TERM": "xterm"}
        process = subprocess.Popen(
            [*CHAT, *arguments], stdin=other, stdout=other, stderr=other, env=settings, start_new_session=True
        )
        os.close(other)
        return process, main

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def wait_for(self, text: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < end, f"no {text!r} in {self.output[-2000:]!r}"
            if select.select([self._main], [], [], 0.2)[0]:
                new = os.read(self._main, 4096).decode(errors="replace")
                if "\x1b[6n" in new:  # the line editor asks for the cursor position
                    self.type("\x1b[1;1R")
                self.output += new

    def wait_for_more(self) -> None:
        length = len(self.output.split("2004l")[-1])
        while len(self.output.split("2004l")[-1]) == length:
            self.output += os.read(self._main, 4096).decode(errors="replace")

    def close(self) -> int:
        code = self.process.wait(60)
        os.close(self._main)
        return code


@pytest.mark.timeout(240)
def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    """Ctrl+C ends the answer, then the line; Ctrl+D exits; only the user can read the history."""
    endless = json.dumps({"type": "array", "items": {"enum": [1]}, "minItems": 1000})
    options = ("--schema", endless, "--max-tokens", "3000", "--no-repetition-guard", "--no-prompt-lookup")
    terminal = Terminal(tmp_path, str(EXAMPLES / "shelf.png"), *options)
    terminal.wait_for("Ctrl+C stops an answer")
    terminal.wait_for("[0m>")
    terminal.type("How many bottles are there?\r")
    terminal.wait_for("2004l")  # the line was accepted
    terminal.wait_for_more()  # the answer has begun
    os.kill(terminal.process.pid, signal.SIGINT)
    terminal.wait_for("stopped")
    terminal.output = ""
    terminal.wait_for("[0m>")
    terminal.type("/stats\r")
    terminal.wait_for("there is no answer")
    terminal.output = ""
    terminal.wait_for("[0m>")
    terminal.type("half a line\x03")
    terminal.wait_for("press Ctrl+D or type /exit")
    terminal.output = ""
    terminal.wait_for("[0m>")
    terminal.type("\x04")
    assert terminal.close() == 0
    history = tmp_path / "vlrun" / "chat_history"
    assert history.stat().st_mode & 0o077 == 0


def test_the_model_can_be_changed_and_a_word_exits(tmp_path: Path) -> None:
    """The conversation goes on with its images; a model that cannot be used leaves the former one."""
    model = tmp_path / "other model"
    model.symlink_to(FOLDER)
    commands = f"/model\n/model {tmp_path}/none\n/model '{model}'\n/model\n"
    lines = f"How many bottles are there?\n{commands}How many cans?\nexit\nno"
    done = piped(str(EXAMPLES / "shelf.png"), "--system", "Be brief.", lines=lines, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    notes = [line for line in done.stderr.splitlines() if "demo model" not in line and "added" not in line]
    assert notes == [
        "vlrun: vlrun-tiny (embedded)",
        f"vlrun: no model folder at '{tmp_path}/none': 'vlrun export' makes one from a checkpoint",
        f"vlrun: going on with vlrun-tiny (--model: {model})",
        f"vlrun: vlrun-tiny (--model: {model})",
    ]


@pytest.mark.timeout(240)
def test_tab_completes_in_a_terminal(tmp_path: Path) -> None:
    """And ``/quit`` ends the chat. The progress is not on the line of the answer."""
    terminal = Terminal(tmp_path)
    terminal.wait_for("[0m>")
    terminal.output = ""
    terminal.type("/ima\t")
    terminal.wait_for("ge")
    terminal.type(f" {EXAMPLES}/shelf_t\t")
    terminal.wait_for("wo.png")
    terminal.type("\r")
    terminal.wait_for("added to the next question: ")
    terminal.wait_for("[0m>")
    terminal.output = ""
    terminal.type("How many bottles are there?\r")
    terminal.wait_for("3\r\n")
    assert "s3\r\n" not in terminal.output  # as of "1 s3"
    terminal.wait_for("[0m>")
    terminal.type("/quit\r")
    assert terminal.close() == 0
