"""Before a command runs: Ctrl+C while modules are imported, and standard streams that are closed or broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import EXAMPLES
from tests.runtime.cli.command_line import command

pytestmark = pytest.mark.slow

SHELF = str(EXAMPLES / "shelf.png")
INTERRUPT = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["vlrun", *{arguments!r}]
from vlrun.cli import main
main()
"""
IMPORTS = [
    (["--help"], "click"),
    (["tasks"], "vlrun.cli.commands"),
    (["ask", SHELF, "Hi"], "numpy"),
    (["ask", str(EXAMPLES / "ball.mp4"), "Hi"], "av"),
    (["ask", SHELF, "Hi", "--schema", "true"], "llguidance"),
    (["chat"], "vlrun.vlm"),
    (["serve", "--port", "0"], "uvicorn"),
    (["bench", "--model", "/no"], "vlrun.bench.runner"),
    (["export", "/no", "/no"], "vlrun_export.command"),
]


@pytest.mark.parametrize(("arguments", "module"), IMPORTS, ids=[f"{args[0]}-{module}" for args, module in IMPORTS])
def test_ctrl_c_during_an_import_ends_at_once(tmp_path: Path, arguments: list[str], module: str) -> None:
    """The import system swallows KeyboardInterrupt in places, and extension modules turn it into ImportError."""
    _, environment = command([], tmp_path)
    environment["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT.format(module=module, arguments=arguments)],
        stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=120, check=False,
    )  # fmt: skip
    if b"needs more packages" in done.stderr or b"needs another package" in done.stderr:
        pytest.skip("the packages of the export, or for videos, are not installed")
    assert done.stderr.splitlines()[-1:] == [b"vlrun: interrupted"]
    assert b"Traceback" not in done.stderr
    assert done.returncode == 130


def test_nothing_is_imported_before_ctrl_c_is_handled() -> None:
    """What is imported before, Ctrl+C interrupts with a stack trace."""
    code = "import sys; old = set(sys.modules); import vlrun.cli; print(*sorted(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=command([], Path())[1], check=True)
    loaded = {name for name in done.stdout.decode().split() if name.startswith(("vlrun", "click"))}
    assert loaded == {"vlrun", "vlrun.cli"}


def test_a_second_ctrl_c_does_not_interrupt_the_message_of_the_first(tmp_path: Path) -> None:
    """It came while `interrupted` was printed, and ended in a stack trace."""
    code = """
import os, signal, sys
from vlrun.cli import commands
def interrupt(**_): os.kill(os.getpid(), signal.SIGINT)
def print_note(text, print_note=commands.print_note):
    interrupt()
    print_note(text)
commands.print_note, commands.ask.callback = print_note, interrupt
sys.argv = ["vlrun", "ask", "photo.jpg"]
from vlrun.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=command([], tmp_path)[1], timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"\nvlrun: interrupted\n")


COMMANDS = {
    ("--help",): 0,
    ("tasks",): 0,
    ("tasks", "nothing"): 2,
    ("ask", "missing.png"): 3,
    ("ask", SHELF, "--bad"): 2,
    ("verify",): 0,
    ("ask", SHELF, "How many bottles are there?"): 0,
}
"""Each command with its exit code; of those that end with 0, all print something."""
CLOSED, GONE, FULL = ">&-", "reader gone", "full"


def run_with(cli_args: tuple[str, ...], home: Path, stdout: str, stderr: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose stdout or stderr is closed, full, or a pipe without a reader; "" leaves it as it is."""
    arguments, environment = command(cli_args, home)
    closing = [f"{number}>&-" for number, kind in ((1, stdout), (2, stderr)) if kind == CLOSED]
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "wb") as full, os.fdopen(writer, "wb") as gone:  # noqa: PTH123 - a device
        targets = {FULL: full, GONE: gone}
        return subprocess.run(
            ["sh", "-c", f'exec "$@" {" ".join(closing)}', "sh", *arguments],
            stdin=subprocess.DEVNULL, stdout=targets.get(stdout, subprocess.PIPE),
            stderr=targets.get(stderr, subprocess.PIPE), env=environment, timeout=120, check=False,
        )  # fmt: skip


@pytest.mark.fault(52)
@pytest.mark.parametrize("cli_args", COMMANDS, ids=lambda value: " ".join(value)[-40:])
def test_a_closed_stdout_has_a_documented_exit_code(tmp_path: Path, cli_args: tuple[str, ...]) -> None:
    code = COMMANDS[cli_args]
    for kind, expected in ((CLOSED, code or 8), (GONE, code or 141)):
        done = run_with(cli_args, tmp_path, stdout=kind, stderr="")
        assert (done.returncode, b"Traceback" in done.stderr, b"Exception" in done.stderr) == (expected, False, False)


@pytest.mark.fault(52)
@pytest.mark.parametrize("cli_args", COMMANDS, ids=lambda value: " ".join(value)[-40:])
def test_a_closed_stderr_changes_nothing(tmp_path: Path, cli_args: tuple[str, ...]) -> None:
    """Not even that of a command that fails. The answer does not depend on the notes."""
    for kind in (CLOSED, FULL) if "missing.png" in cli_args else (CLOSED,):
        done = run_with(cli_args, tmp_path, stdout="", stderr=kind)
        assert done.returncode == COMMANDS[cli_args]
        assert bool(done.stdout) == (done.returncode == 0)


@pytest.mark.fault(52)
def test_other_files_do_not_get_the_descriptors_of_closed_streams(tmp_path: Path) -> None:
    """A library's message for stderr was written into the file that had got descriptor 2."""
    code = (
        "import os, sys; from vlrun.cli.startup import open_standard_streams; open_standard_streams();"
        f"descriptor = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY); os._exit(descriptor)"
    )
    _, environment = command([], tmp_path)
    arguments = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(arguments, env=environment, timeout=60, check=False).returncode > 2
