"""scripts/_environment, run for real against a Python that only pretends: it counts what it is asked to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.paths import ROOT

# Stands in for Python: makes environments of itself, and "installs" a vlrun that repeats its arguments. What it cannot
# do stands in the file `broken` beside it.
PRETENDER = """#!/usr/bin/env bash
echo "$*" >>"{log}"
! grep --quiet --line-regexp --fixed-strings -- "${{2:-}}" "{broken}" 2>/dev/null || exit 1
case "$*" in
*'-m venv'*) mkdir -p "${{@: -1}}/bin"; touch "${{@: -1}}/pyvenv.cfg"; cp "$0" "${{@: -1}}/bin/python" ;;
*'pip '*' install '* | *'pip install '*)
    [ ! -e "{broken}.install" ] || exit 1
    printf '#!/bin/sh\\necho "answer: $*"\\n' >"{envs}/runtime/bin/vlrun"
    chmod +x "{envs}/runtime/bin/vlrun"
    ;;
esac
"""


@dataclass(frozen=True)
class Stranger:
    """A clone in an odd place, and a machine whose every Python is the pretender."""

    clone: Path
    tools: Path
    envs: Path
    log: Path
    broken: Path

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}", "VLRUN_ENV": str(self.envs)}
        command = [str(self.clone / "scripts" / "ask"), *arguments]
        return subprocess.run(command, cwd=self.tools, env=settings, capture_output=True, text=True, check=False)

    def installs(self) -> int:
        return self.log.read_text().count("pip install") if self.log.exists() else 0


@pytest.fixture
def stranger(tmp_path: Path) -> Stranger:
    who = Stranger(
        clone=tmp_path / "a clone",
        tools=tmp_path / "tools",
        envs=tmp_path / "some envs",
        log=tmp_path / "log",
        broken=tmp_path / "broken",
    )
    shutil.copytree(ROOT / "scripts", who.clone / "scripts")
    shutil.copy(ROOT / "setup.cfg", who.clone)
    who.tools.mkdir()
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        (who.tools / name).write_text(PRETENDER.format(log=who.log, broken=who.broken, envs=who.envs))
        (who.tools / name).chmod(0o755)
    return who


def test_the_first_call_installs_and_answers(stranger: Stranger) -> None:
    run = stranger.ask("an image.png", "How many?")
    assert (run.returncode, run.stdout) == (0, "answer: ask an image.png How many?\n")
    assert stranger.installs() == 1


def test_the_second_call_starts_at_once(stranger: Stranger) -> None:
    stranger.ask("a.png")
    stranger.log.unlink()
    run = stranger.ask("b.png")
    assert (run.returncode, run.stdout, run.stderr) == (0, "answer: ask b.png\n", "")
    assert not stranger.log.exists()


def test_changed_requirements_make_it_anew(stranger: Stranger) -> None:
    stranger.ask("a.png")
    with (stranger.clone / "setup.cfg").open("a") as file:
        file.write("# changed\n")
    assert stranger.ask("a.png").returncode == 0
    assert stranger.installs() == 2


def test_a_moved_clone_makes_it_anew(stranger: Stranger) -> None:
    stranger.ask("a.png")
    stranger.clone.rename(stranger.clone.with_name("moved"))
    moved = Stranger(stranger.clone.with_name("moved"), stranger.tools, stranger.envs, stranger.log, stranger.broken)
    assert moved.ask("a.png").returncode == 0
    assert stranger.installs() == 2


def test_a_failed_installation_leaves_nothing_and_is_tried_again(stranger: Stranger) -> None:
    failing = stranger.broken.with_name("broken.install")
    failing.touch()
    run = stranger.ask("a.png")
    assert run.returncode != 0
    assert run.stdout == ""
    assert not (stranger.envs / "runtime").exists()
    failing.unlink()
    assert stranger.ask("a.png").stdout == "answer: ask a.png\n"


def test_a_half_made_environment_is_not_used(stranger: Stranger) -> None:
    stranger.ask("a.png")
    (stranger.envs / "runtime" / "made-for").unlink()
    assert stranger.ask("a.png").returncode == 0
    assert stranger.installs() == 2


def test_without_ensurepip_another_pip_stands_in(stranger: Stranger) -> None:
    stranger.broken.write_text("import ensurepip\n")
    assert stranger.ask("a.png").stdout == "answer: ask a.png\n"
    assert "--without-pip" in stranger.log.read_text()


def test_without_ensurepip_and_pip_one_sentence_says_what_to_do(stranger: Stranger) -> None:
    stranger.broken.write_text("import ensurepip\npip\n")
    run = stranger.ask("a.png")
    assert run.returncode != 0
    assert "sudo apt install python3-venv" in run.stderr
    assert not (stranger.envs / "runtime").exists()


def test_an_old_python_is_told_so(stranger: Stranger) -> None:
    stranger.broken.write_text("import sys; sys.exit(sys.version_info < (3, 11))\n")
    run = stranger.ask("a.png")
    assert run.returncode != 0
    assert "Python 3.11 or newer" in run.stderr


def test_a_folder_of_somebody_else_is_left_alone(stranger: Stranger) -> None:
    theirs = stranger.envs / "runtime" / "diary.txt"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    assert stranger.ask("a.png").returncode != 0
    assert theirs.exists()
