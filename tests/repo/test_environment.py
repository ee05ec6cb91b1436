"""scripts/_environment, run against a fake Python that logs its calls."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.paths import ROOT

# Replaces Python: creates environments that contain itself, and "installs" a vlrun that prints its arguments. The file
# `broken` lists what it fails to do.
FAKE_PYTHON = """#!/usr/bin/env bash
echo "$*" >>"{log}"
! grep --quiet --line-regexp --fixed-strings -- "${{2:-}}" "{broken}" 2>/dev/null || exit 1
case "$*" in
*'-m '*) [ ! -e "{broken}.interrupt" ] || {{ trap '' INT; echo Traceback >&2; kill -INT 0; exit 1; }} ;;&
*'-m venv'*) mkdir -p "${{@: -1}}/bin"; touch "${{@: -1}}/pyvenv.cfg"; cp "$0" "${{@: -1}}/bin/python" ;;
*'pip '*' install '* | *'pip install '*)
    [ ! -e "{broken}.install" ] || exit 1
    for bin in "{envs}"/*/bin; do
        printf '#!/bin/sh\\necho "answer: $*"\\n' >"$bin/vlrun"
        chmod +x "$bin/vlrun"
    done
    ;;
esac
"""


@dataclass(frozen=True)
class FreshMachine:
    """A clone in a folder with a space in its name, on a machine with only a fake Python."""

    clone: Path
    tools: Path
    envs: Path
    log: Path
    broken: Path

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("ask", *arguments)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}", "VLRUN_ENV": str(self.envs)}
        command = [str(self.clone / "scripts" / script), *arguments]
        return subprocess.run(
            command, cwd=self.tools, env=settings, capture_output=True, text=True, check=False, start_new_session=True
        )

    def installs(self) -> int:
        return self.log.read_text().count("pip install") if self.log.exists() else 0


@pytest.fixture
def machine(tmp_path: Path) -> FreshMachine:
    machine = FreshMachine(
        clone=tmp_path / "a clone",
        tools=tmp_path / "tools",
        envs=tmp_path / "some envs",
        log=tmp_path / "log",
        broken=tmp_path / "broken",
    )
    shutil.copytree(ROOT / "scripts", machine.clone / "scripts")
    shutil.copy(ROOT / "setup.cfg", machine.clone)
    machine.tools.mkdir()
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        (machine.tools / name).write_text(FAKE_PYTHON.format(log=machine.log, broken=machine.broken, envs=machine.envs))
        (machine.tools / name).chmod(0o755)
    return machine


def test_the_first_call_installs_and_answers(machine: FreshMachine) -> None:
    run = machine.ask("an image.png", "How many?")
    assert (run.returncode, run.stdout) == (0, "answer: ask an image.png How many?\n")
    assert machine.installs() == 1


def test_the_second_call_installs_nothing(machine: FreshMachine) -> None:
    machine.ask("a.png")
    machine.log.unlink()
    run = machine.ask("b.png")
    assert (run.returncode, run.stdout, run.stderr) == (0, "answer: ask b.png\n", "")
    assert not machine.log.exists()


def test_changed_requirements_recreate_the_environment(machine: FreshMachine) -> None:
    machine.ask("a.png")
    with (machine.clone / "setup.cfg").open("a") as file:
        file.write("# changed\n")
    assert machine.ask("a.png").returncode == 0
    assert machine.installs() == 2


def test_a_moved_clone_recreates_the_environment(machine: FreshMachine) -> None:
    machine.ask("a.png")
    machine.clone.rename(machine.clone.with_name("moved"))
    moved = FreshMachine(machine.clone.with_name("moved"), machine.tools, machine.envs, machine.log, machine.broken)
    assert moved.ask("a.png").returncode == 0
    assert machine.installs() == 2


def test_a_failed_installation_is_removed_and_retried(machine: FreshMachine) -> None:
    failing = machine.broken.with_name("broken.install")
    failing.touch()
    run = machine.ask("a.png")
    assert run.returncode != 0
    assert run.stdout == ""
    assert "the runtime environment could not be created" in run.stderr
    assert not (machine.envs / "runtime").exists()
    failing.unlink()
    assert machine.ask("a.png").stdout == "answer: ask a.png\n"


def test_ctrl_c_leaves_one_sentence_and_the_next_call_begins_again(machine: FreshMachine) -> None:
    """The module venv printed its stack trace."""
    interrupt = machine.broken.with_name("broken.interrupt")
    interrupt.touch()
    run = machine.ask("a.png")
    assert run.returncode in (130, -signal.SIGINT)  # to a shell both are 130
    assert run.stdout == ""
    assert run.stderr.splitlines()[-1:] == ["vlrun: interrupted; the next call begins again"]
    assert len(run.stderr.splitlines()) == 2
    assert not (machine.envs / "runtime").exists()
    interrupt.unlink()
    assert machine.ask("a.png").returncode == 0


def test_an_incomplete_environment_is_recreated(machine: FreshMachine) -> None:
    machine.ask("a.png")
    (machine.envs / "runtime" / "made-for").unlink()
    assert machine.ask("a.png").returncode == 0
    assert machine.installs() == 2


def test_without_ensurepip_another_pip_is_used(machine: FreshMachine) -> None:
    machine.broken.write_text("import ensurepip\n")
    assert machine.ask("a.png").stdout == "answer: ask a.png\n"
    assert "--without-pip" in machine.log.read_text()


def test_without_ensurepip_and_pip_the_message_names_the_package_to_install(machine: FreshMachine) -> None:
    machine.broken.write_text("import ensurepip\npip\n")
    run = machine.ask("a.png")
    assert run.returncode != 0
    assert "sudo apt install python3-venv" in run.stderr
    assert not (machine.envs / "runtime").exists()


def test_an_old_python_is_refused(machine: FreshMachine) -> None:
    machine.broken.write_text("import sys; sys.exit(sys.version_info < (3, 11))\n")
    run = machine.ask("a.png")
    assert run.returncode != 0
    assert "Python 3.11 or newer" in run.stderr


def test_a_folder_with_other_files_is_left_alone(machine: FreshMachine) -> None:
    other = machine.envs / "runtime" / "other.txt"
    other.parent.mkdir(parents=True)
    other.touch()
    assert machine.ask("a.png").returncode != 0
    assert other.exists()


def test_the_fast_tier_has_its_own_environment(machine: FreshMachine) -> None:
    """Guards against a fast tier that installs torch."""
    run = machine.run("test", "-k", "name", "--fast")
    assert run.returncode == 0, run.stderr
    log = machine.log.read_text()
    assert "[test]" in log
    assert "torch" not in log
    assert log.endswith("-k name --fast\n")
    assert not (machine.envs / "workbench").exists()


def test_all_commands_run_from_the_clone(machine: FreshMachine) -> None:
    """Guards the second command of a new user: a bare `vlrun` is not found."""
    first = machine.run("vlrun", "tasks", "a b")
    assert first.stdout == "answer: tasks a b\n"
    assert f"where the documentation says vlrun, type {machine.clone}/scripts/vlrun\n" in first.stderr
    assert machine.run("serve", "--port", "0").stdout == "answer: serve --port 0\n"
    assert machine.run("vlrun").stdout == "answer: \n"
    assert machine.installs() == 1


@pytest.mark.parametrize("command", [["export"], ["vlrun", "export"]], ids=" ".join)
def test_the_export_has_only_what_it_needs(machine: FreshMachine, command: list[str]) -> None:
    """Guards an export that installs mypy, pytest and other runtimes."""
    run = machine.run(*command, "a checkpoint", "out")
    assert run.stdout == "answer: export a checkpoint out\n", run.stderr
    installed = [line for line in machine.log.read_text().splitlines() if "pip install" in line]
    assert [line.rpartition(" ")[2].rpartition("[")[2] for line in installed] == ["torch==2.13.0+cpu", "export,hub]"]
    assert [path.name for path in machine.envs.iterdir() if path.is_dir()] == ["export"]


def test_pull_runs_where_checkpoints_can_be_converted(machine: FreshMachine) -> None:
    """Guards a pull that downloads torch for a ready model, and one that does not find the torch that is there."""
    assert machine.run("vlrun", "pull", "a").stdout == "answer: pull a\n"
    assert [path.name for path in machine.envs.iterdir() if path.is_dir()] == ["runtime"]
    machine.run("export", "a checkpoint", "out")
    shutil.rmtree(machine.envs / "runtime")
    assert machine.run("vlrun", "pull", "a").stdout == "answer: pull a\n"
    assert [path.name for path in machine.envs.iterdir() if path.is_dir()] == ["export"]


def test_the_tier_of_clients_runs_only_its_folder_without_torch(machine: FreshMachine) -> None:
    run = machine.run("test", "--clients", "-k", "llm")
    assert run.returncode == 0, run.stderr
    log = machine.log.read_text()
    assert log.endswith("--numprocesses 0 --dist loadfile --clients -k llm tests/clients\n")
    assert "torch" not in log
