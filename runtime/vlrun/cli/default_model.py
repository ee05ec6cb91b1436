"""The default model in the user's configuration file: one line, which ``vlrun models default`` and ``pull`` write."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from vlrun.cli.model_choice import VARIABLE, config_file, configured_model
from vlrun.cli.terminal import print_note
from vlrun.errors import ModelError, OptionError, OutputError

if TYPE_CHECKING:
    from vlrun.models.store.store import ModelStore

LINE = re.compile(r"(?m)^[ \t]*model[ \t]*=.*\n?")


def default_name() -> str | None:
    """Return the name or path in the configuration file; None if there is none. Raises OptionError."""
    path = config_file()
    return None if path is None else configured_model(path)


def set_default(name: str | None) -> None:
    """Write the default model to the configuration file, or remove it. Raises OptionError and OutputError."""
    from vlrun.storage.output_file import reason, write_atomically

    path = config_file()
    if path is None:
        raise OptionError("there is no home directory for a configuration file: set HOME or XDG_CONFIG_HOME")
    configured_model(path)  # a file that cannot be read is not written
    try:
        old = path.read_text("utf-8-sig") if path.exists() else ""
        line = "" if name is None else f"model = {json.dumps(name)}\n"
        new, replaced = LINE.subn(lambda _: line, old, count=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(os.path.realpath(path)), (new if replaced else line + old).encode())
    except OSError as error:
        raise OutputError(f"cannot write the configuration file '{path}': {reason(error)}") from error
    if name is not None and os.environ.get(VARIABLE):
        print_note(f"{VARIABLE} is set and has priority over the default model")


def is_usual(store: ModelStore) -> bool:
    """Return whether names are looked for in this store, if no option names another."""
    with contextlib.suppress(ModelError):
        return type(store).open().folder == store.folder
    return False


def use_first(store: ModelStore, name: str) -> None:
    """Make a model the default if there is none yet, and say so. Without a configuration file nothing happens."""
    with contextlib.suppress(OptionError, OutputError):
        if default_name() is None and is_usual(store):
            set_default(name)
            print_note(f"'{name}' is the default model from now on; 'vlrun models default' changes that")


def forget(store: ModelStore, name: str) -> None:
    """Let a removed model be the default no longer, and say so."""
    with contextlib.suppress(OptionError, OutputError):
        if (default_name() or "").lower() == name.lower() and is_usual(store):
            set_default(None)
            print_note(f"'{name}' was the default model; now there is none: 'vlrun models default NAME' sets one")
