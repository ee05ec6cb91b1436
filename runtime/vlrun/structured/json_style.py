"""JSON as answers write it: as ``json.dumps`` does, with one spelling of each character, and no name twice."""

from __future__ import annotations

from collections.abc import Mapping

JSON_STYLE: Mapping[str, object] = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    # No hexadecimal escapes, which would allow duplicate keys.
    "json_allowed_escapes": 'nrbtf\\"',
}


class DuplicateName(ValueError):
    """An object with a name twice. Parsers keep only one of several members of the same name."""


def unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object, for ``json.loads``. Raises DuplicateName."""
    members = dict(pairs)
    if len(members) != len(pairs):
        name = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
        raise DuplicateName(f"it has the name '{name:.80}' twice")
    return members
