"""Groups of click options that a command receives as one argument."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import click

R = TypeVar("R")

OptionTable: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Attributes of click options by parameter name. ``option`` replaces the option's name; ``aliases`` adds names. A flag
with a default also gets a ``--no-`` form.
"""


def option_group(
    name: str, table: OptionTable, make: Callable[..., object]
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Return a decorator that adds options to a command and passes them as the argument ``name``.

    The argument is the result of ``make``, called with the options that are not None.
    """

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(command)
        def gather(**given: Any) -> R:
            values = {member: given.pop(member) for member in table}
            given[name] = make(**{member: value for member, value in values.items() if value is not None})
            return command(**given)

        decorated: Callable[..., R] = gather
        for member, attributes in reversed(list(table.items())):
            word = attributes.get("option", member.replace("_", "-"))
            declared = f"--{word}/--no-{word}" if "is_flag" in attributes and "default" in attributes else f"--{word}"
            others = {key: value for key, value in attributes.items() if key not in ("option", "aliases")}
            decorated = click.option(declared, *attributes.get("aliases", ()), member, **others)(decorated)
        return decorated

    return decorate
