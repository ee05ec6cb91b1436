"""Types of options and arguments that refuse what click accepts: NaN, and names that are empty."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem


class FiniteRange(click.FloatRange):
    """A number in a range. NaN is in none, but is neither below nor above one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number. Raises BadParameter."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


class _Name(click.ParamType[str]):
    """A text that is not blank."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text. Raises BadParameter."""
        if not str(value).strip():
            self.fail("it must not be empty.", param, ctx)
        return str(value)


class _File(click.Path):
    """A path that is not empty: an empty one would be the current folder."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path. Raises BadParameter."""
        if not os.fspath(value):
            self.fail("it must not be empty.", param, ctx)
        return Path(os.fsdecode(super().convert(value, param, ctx)))


NAME = _Name()


def stored_names() -> list[str]:
    """Return the names of the models in the store; none if it cannot be used."""
    from vlrun.errors import ModelError
    from vlrun.models.store.store import ModelStore

    try:
        return ModelStore.open().names()
    except ModelError:
        return []


class _Folder(_File):
    """A path for which shell completion offers folders only. Whether it is one is checked where it is opened."""

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Let the shell complete the name of a folder."""
        return [CompletionItem(incomplete, type="dir")]


class _Model(_Name):
    """The name of a model or the path of a folder: they are told apart by how they are written."""

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Let the shell complete the name of a folder, and offer the names of the store."""
        folders = CompletionItem(incomplete, type="dir")
        return [folders, *(CompletionItem(name) for name in stored_names() if name.startswith(incomplete))]


class _Task(click.types.StringParamType):
    """The name of a task, built-in or of the user's own file."""

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the built-in tasks."""
        from vlrun.tasks.definition import built_in_tasks

        return [
            CompletionItem(name, help=task.about)
            for name, task in built_in_tasks().items()
            if name.startswith(incomplete)
        ]


FILE = _File(path_type=Path)
FOLDER = _Folder(path_type=Path)
MODEL = _Model()
TEXT_OR_FILE = click.Path(path_type=str, readable=False)
"""The name of an image, a question or a URL, unchecked. Shell completion offers files."""
TASK = _Task()
