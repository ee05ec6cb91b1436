"""``vlrun chat``: the terminal side of a conversation: reading lines, streaming answers, Ctrl+C. Knows click.

What the words of a user do is ``Repl``'s business.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from vlrun.cli import options as option
from vlrun.cli.ask import DEMO
from vlrun.cli.repl import HELP, Repl
from vlrun.errors import OptionError

if TYPE_CHECKING:
    from vlrun.types.options import Options

CONTINUED = "\\"
BLOCK = '"""'


@click.command(options_metavar="[OPTIONS]")
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@option.sampling
@option.loading
def chat(images: tuple[str, ...], options: Options, loading: option.ModelOptions) -> None:
    """Talk about images. Each turn costs only its new tokens; Ctrl+C stops an answer, Ctrl+D leaves.

    /help lists what else can be done.
    """
    if sys.stdin is None:
        raise OptionError("a chat reads its questions from stdin, but stdin is closed")
    if loading.model is None:
        click.echo(DEMO, err=True)
    repl = Repl(loading.load(), options)
    if images:
        repl.show(images)
    read = _terminal() if sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty() else _plain
    if read is not _plain:
        click.echo(HELP, err=True)
    while not repl.left:
        try:
            repl.run(_whole(read))
        except KeyboardInterrupt:
            click.echo("Ctrl+D or /exit leaves", err=True)
        except EOFError:
            break
    with contextlib.suppress(KeyboardInterrupt):
        repl.close()


def _whole(read: Callable[[str], str]) -> str:
    """A question of one line or more: one that ends in a backslash goes on, and so does all between three quotes."""
    line = read("> ")
    if line.strip().startswith(BLOCK):
        lines = [line.strip().removeprefix(BLOCK)]
        with contextlib.suppress(EOFError):  # what was typed counts
            while not lines[-1].rstrip().endswith(BLOCK):
                lines.append(read(". "))
        return "\n".join(lines).rstrip().removesuffix(BLOCK).strip()
    lines = [line]
    with contextlib.suppress(EOFError):
        while lines[-1].endswith(CONTINUED):
            lines[-1] = lines[-1].removesuffix(CONTINUED)
            lines.append(read(". "))
    return "\n".join(lines)


def _plain(_: str) -> str:
    """A line of a pipe or file, without a prompt."""
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.removesuffix("\n")


def _terminal() -> Callable[[str], str]:
    """A line editor with history, which lies in the user's cache folder, readable by the user alone."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    from vlrun.storage import cache_paths

    history: History = InMemoryHistory()
    with contextlib.suppress(OSError):
        path = cache_paths.chat_history()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        history = FileHistory(str(path))
    session: PromptSession[str] = PromptSession(history=history)
    return session.prompt
