"""Shell completion: what the shells get that source click's scripts (docs/commands.md)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.runtime.cli.command_line import command

pytestmark = pytest.mark.slow

PROGRAM = "import sys; sys.argv = ['vlrun']; from vlrun.cli import main; main()"


def complete(words: Sequence[str], home: Path, instruction: str = "bash_complete") -> list[str]:
    """Return the completions of the last word, each with its kind, as bash gets them."""
    _, environment = command([], home)
    environment |= {
        "_VLRUN_COMPLETE": instruction,
        "COMP_WORDS": " ".join(["vlrun", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert not done.stderr
    return done.stdout.splitlines()


CASES = {
    "ask she": ["file,she"],  # bash then completes the names of files
    "chat she": ["file,she"],
    "ask shelf.png she": ["file,she"],
    "ask -m mod": ["dir,mod"],
    "verify mod": ["dir,mod"],
    "ask --schema she": ["file,she"],
    "ask --output she": ["file,she"],
    "ask --task co": ["plain,count", "plain,compare"],
    "tasks ta": ["plain,table"],
    "ask --detail l": ["plain,low"],
    "cache cl": ["plain,clear"],
}


@pytest.mark.parametrize("line", CASES)
def test_words_are_completed_by_what_they_are(line: str, tmp_path: Path) -> None:
    """Images had no completion at all: click knew only that they are texts."""
    assert complete(line.split(), tmp_path) == CASES[line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_documented_command_prints_a_script(shell: str, tmp_path: Path) -> None:
    script = "\n".join(complete([], tmp_path, f"{shell}_source"))
    assert "vlrun" in script
    assert f"_VLRUN_COMPLETE={shell}_complete" in script
