"""``vlrun chat``: reads lines from a terminal or pipe and passes them to the ``Repl``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from vlrun.cli.option_groups import option_group
from vlrun.cli.options import SHOW_THINKING, ModelOptions, with_answer_options, with_model_options
from vlrun.cli.repl import HELP, Repl
from vlrun.cli.terminal import print_error
from vlrun.errors import OptionError
from vlrun.storage.text_files import without_byte_order_mark

if TYPE_CHECKING:
    from vlrun.types.options import Options

MAX_HISTORY_BYTES = 64 << 20
MAX_TEXT = 2 << 20
"""Characters of a question, as many as a prompt may have: a line of /dev/zero never ends."""
CONTINUATION = "\\"
BLOCK = '"""'


def _shown(show_thinking: bool) -> bool:
    return show_thinking


@click.command(options_metavar="[OPTIONS]")
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@option_group("show_thinking", SHOW_THINKING, _shown)
@with_answer_options
@with_model_options
def chat(images: tuple[str, ...], show_thinking: bool, options: Options, model_options: ModelOptions) -> None:
    """Chat about images. Only new tokens are computed; Ctrl+C stops an answer, Ctrl+D exits.

    /help lists the commands of the chat.
    """
    if sys.stdin is None:
        raise OptionError("a chat reads questions from stdin, but stdin is closed")
    vlm = model_options.load()
    repl = Repl(vlm, options, show_thinking)
    if images:
        repl.add_images(images)
    read_line: Callable[[str], str] = _read_pipe
    if sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty():
        read_line = _line_editor()
        print_error(HELP)
    while not repl.exited:
        try:
            repl.run(_read_question(read_line))
        except KeyboardInterrupt:
            print_error("press Ctrl+D or type /exit to exit")
        except EOFError:
            break
    with contextlib.suppress(KeyboardInterrupt):
        vlm.close()


def _read_question(read_line: Callable[[str], str]) -> str:
    """Read a line, lines that end in a backslash, or a block between triple quotes. Raises OptionError."""
    line = read_line("> ")
    if line.strip().startswith(BLOCK):
        first = line.strip().removeprefix(BLOCK)
        lines = _read_while(read_line, first, lambda line: not line.rstrip().endswith(BLOCK))
        return "\n".join(lines).rstrip().removesuffix(BLOCK).strip()
    lines = _read_while(read_line, line, lambda line: line.endswith(CONTINUATION))
    return "\n".join(line.removesuffix(CONTINUATION) for line in lines)


def _read_while(read_line: Callable[[str], str], first: str, continues: Callable[[str], bool]) -> list[str]:
    """Return a line and those that follow while ``continues``. An open block ends with the input."""
    lines, characters = [first], len(first)
    with contextlib.suppress(EOFError):
        while continues(lines[-1]):
            lines.append(read_line(". "))
            characters += len(lines[-1]) + 1
            _check_length(characters)
    return lines


def _read_pipe(_: str) -> str:
    line = sys.stdin.readline(MAX_TEXT + 1)
    if not line:
        raise EOFError
    _check_length(len(line))
    return without_byte_order_mark(line.removesuffix("\n"))


def _check_length(characters: int) -> None:
    """Raise OptionError, which ends the chat: the rest of the text would be taken for further questions."""
    if characters > MAX_TEXT:
        raise OptionError(f"a question on stdin has more than {MAX_TEXT:,} characters, the limit")


def _line_editor() -> Callable[[str], str]:
    """Return a line editor. Only the user can read its history file."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    from vlrun.storage import cache_paths, files
    from vlrun.storage.regular_files import open_regular

    history: History = InMemoryHistory()
    with contextlib.suppress(OSError):
        path = cache_paths.chat_history()
        files.make_folder(path.parent)
        path.touch(mode=0o600)
        os.close(open_regular(path, MAX_HISTORY_BYTES))  # it is read as a whole
        history = FileHistory(str(path))
    session: PromptSession[str] = PromptSession(history=history)
    return session.prompt
