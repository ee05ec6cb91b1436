"""Names of models in the store."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from vlrun.errors import OptionError

MAX_NAME = 96
"""Characters; file systems allow 255 bytes, and copies and downloads add to the name."""
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")
RESERVED = frozenset(("con", "prn", "aux", "nul"))
"""Not possible on the file systems of other machines."""
MAX_SUGGESTIONS = 3


def is_name(text: str) -> bool:
    """Return whether a text can be the name of a model; a path with a slash cannot."""
    return bool(NAME.fullmatch(text)) and not text.endswith(".") and text.lower() not in RESERVED


def check_name(text: str) -> str:
    """Return a valid name. Raises OptionError."""
    if not is_name(text):
        raise OptionError(
            f"'{text}' cannot be the name of a model: use up to {MAX_NAME} letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    return text


def name_for(repository: str, weights: str | None = None) -> str:
    """Return the name of a model that comes from a repository or folder, with the weights that were asked for."""
    own = re.sub(r"[^A-Za-z0-9._-]+", "-", repository.rstrip("/").rpartition("/")[2].lower()).strip("-._")
    return f"{own or 'model'}{f'-{weights}' if weights else ''}"[:MAX_NAME].rstrip(".")


def near(text: str, names: Iterable[str]) -> list[str]:
    """Return the names that a user may have meant, the nearest first."""
    known = {name.lower(): name for name in names}
    found = difflib.get_close_matches(text.lower(), known, MAX_SUGGESTIONS, 0.6)
    found += [name for name in sorted(known) if text.lower() in name and name not in found]
    return [known[name] for name in found[:MAX_SUGGESTIONS]]
