"""Text for a terminal."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from vlrun.cli.commands import commands
from vlrun.cli.terminal import print_error, print_note, printable


def test_control_and_bidi_characters_are_removed() -> None:
    assert printable("pay \u202e001\u202c") == "pay 001"
    assert printable("a\x1b[31m\x07b\r\nc\td\x9be") == "a[31mb\nc\tde"


def test_nothing_on_stderr_controls_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of files were printed as they are: in usage errors, in the steps of an export, and in its next command."""
    for write in (print_error, print_note):
        write("model\x1b[2J\u202e")
    assert capsys.readouterr().err == "model[2J\nvlrun: model[2J\n"


def test_nothing_of_a_path_on_stdout_controls_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/no/\x1b[2Jsuch")
    assert "/no/[2Jsuch" in CliRunner().invoke(commands, ["cache", "show"], color=True).stdout
