"""``vlrun chat``: reads lines from a terminal or pipe and passes them to the ``Repl``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from vlrun.cli.option_groups import option_group
from vlrun.cli.options import SHOW_THINKING, SYSTEM, ModelOptions, with_answer_options, with_model_options
from vlrun.cli.parameter_types import TEXT_OR_FILE
from vlrun.cli.repl import COMMANDS, HELP, Repl
from vlrun.cli.terminal import print_error
from vlrun.errors import OptionError
from vlrun.storage.text_files import without_byte_order_mark

if TYPE_CHECKING:
    from vlrun.types.options import Options

MAX_TEXT = 2 << 20
"""Characters of a question, as many as a prompt may have: a line of /dev/zero never ends."""
CONTINUATION = "\\"
BLOCK = '"""'


@dataclass(frozen=True)
class ChatOptions:
    """The values of ``SYSTEM`` and ``SHOW_THINKING``."""

    system: str | None = None
    show_thinking: bool = True


@click.command(options_metavar="[OPTIONS]")
@click.argument("images", nargs=-1, type=TEXT_OR_FILE, metavar="[IMAGE]...")
@option_group("chat_options", {**SYSTEM, **SHOW_THINKING}, ChatOptions)
@with_answer_options
@with_model_options
def chat(images: tuple[str, ...], chat_options: ChatOptions, options: Options, model_options: ModelOptions) -> None:
    """Chat about images. Only new tokens are computed; Ctrl+C stops an answer, Ctrl+D exits.

    /help lists the commands of the chat; Tab completes them, and the names of files.
    """
    if sys.stdin is None:
        raise OptionError("a chat reads questions from stdin, but stdin is closed")
    with model_options.progress_line() as line:
        repl = Repl(model_options, options, line, chat_options.system, chat_options.show_thinking)
        if images:
            repl.add_images(images)
        read_line: Callable[[str], str] = _read_pipe
        if sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty():
            from vlrun.cli.line_editor import line_editor

            read_line = line_editor(COMMANDS)
            print_error(HELP)
        while not repl.exited:
            try:
                repl.run(_read_question(read_line))
            except KeyboardInterrupt:
                print_error("press Ctrl+D or type /exit to exit")
            except EOFError:
                break
        with contextlib.suppress(KeyboardInterrupt):
            repl.close()


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
