"""The line editor of ``vlrun chat`` in a terminal: history, and completion of commands, files and tasks with Tab."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from vlrun.cli.parameter_types import stored_names
from vlrun.storage import cache_paths, files
from vlrun.storage.regular_files import open_regular

MAX_HISTORY_BYTES = 64 << 20
MAX_COMPLETIONS = 1000
"""Entries of a folder that are offered: more would not help, and take long to show."""

FILES, MODELS, TASKS = "files", "models", "tasks"
"""What the words after a command are."""


def line_editor(commands: Mapping[str, str]) -> Callable[[str], str]:
    """Return a line editor. Only the user can read its history file.

    Args:
        commands: The commands, and what the words after each are: ``FILES``, ``MODELS``, ``TASKS`` or "".
    """
    history: History = InMemoryHistory()
    with contextlib.suppress(OSError):
        path = cache_paths.chat_history()
        files.make_folder(path.parent)
        path.touch(mode=0o600)
        os.close(open_regular(path, MAX_HISTORY_BYTES))  # it is read as a whole
        history = FileHistory(str(path))
    session: PromptSession[str] = PromptSession(
        history=history, completer=ChatCompleter(commands), complete_while_typing=False
    )
    return session.prompt


class ChatCompleter(Completer):
    """Completes the commands of a chat and their words. A question is not completed."""

    def __init__(self, commands: Mapping[str, str]) -> None:
        self._commands = commands

    def get_completions(self, document: Document, _: CompleteEvent) -> Iterable[Completion]:
        """Yield what may stand in place of the word before the cursor."""
        line = document.text_before_cursor.lstrip()
        if not line.startswith("/"):
            return
        command, space, rest = line.partition(" ")
        if not space:
            yield from (Completion(name, -len(command)) for name in self._commands if name.startswith(command))
            return
        kind, typed = self._commands.get(command), _last_word(rest)
        if kind == TASKS:
            from vlrun.tasks.definition import built_in_tasks

            if rest == typed:  # the first word
                yield from (Completion(name, -len(typed)) for name in built_in_tasks() if name.startswith(typed))
        elif kind in (FILES, MODELS):
            if kind == MODELS:
                yield from (Completion(name, -len(typed)) for name in stored_names() if name.startswith(typed))
            for path in _paths(_unquoted(typed), folders_only=kind == MODELS):
                yield Completion(_quoted(path), -len(typed), display=path.rstrip("/").rpartition("/")[2])


def _last_word(text: str) -> str:
    """Return the last word as it was typed, with quotes and backslashes; "" after a space."""
    start, quote, escaped = 0, "", False
    for number, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character.isspace():
            start = number + 1
    return text[start:]


def _unquoted(word: str) -> str:
    """Return a word without its quotes, of which the last may be missing yet."""
    for closing in ("", "'", '"'):
        with contextlib.suppress(ValueError):
            return "".join(shlex.split(word + closing))
    return word


def _quoted(path: str) -> str:
    """Return a path as a word. A ~ at its beginning stays outside of the quotes, to be expanded."""
    home, slash, rest = path.partition("/")
    if home.startswith("~") and slash:
        return f"{home}/{shlex.quote(rest) if rest else ''}"
    return shlex.quote(path)


def _paths(typed: str, *, folders_only: bool) -> Iterator[str]:
    """Yield the paths that begin with what was typed, folders with a slash at their end."""
    before, slash, beginning = typed.rpartition("/")
    folder = Path(os.path.expanduser(before + slash) or ".")  # noqa: PTH111 - Path.expanduser raises if there is no home
    with contextlib.suppress(OSError, ValueError):
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.startswith(beginning))
        for name in names[:MAX_COMPLETIONS]:
            if name.startswith(".") and not beginning:
                continue
            is_folder = (folder / name).is_dir()
            if is_folder or not folders_only:
                yield f"{before}{slash}{name}{'/' if is_folder else ''}"
