"""Options of a command gathered into values: it receives a few of these instead of many single ones. Knows click."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

R = TypeVar("R")


def grouped(
    command: Callable[..., R],
    name: str,
    members: Mapping[str, Mapping[str, Any]],
    made: Callable[[Mapping[str, Any]], object],
) -> Callable[..., R]:
    """The command with an option for each member; what is given of them arrives as one value, made when it runs.

    An option bears its member's name; ``option`` names it otherwise, ``aliases`` are further names. A flag with a
    default has a ``--no-`` form too.
    """

    @functools.wraps(command)
    def gather(**given: Any) -> R:
        values = {member: given.pop(member) for member in members}
        given[name] = made({member: value for member, value in values.items() if value is not None})
        return command(**given)

    decorated: Callable[..., R] = gather
    for member, attributes in reversed(list(members.items())):
        word = attributes.get("option", member.replace("_", "-"))
        declared = f"--{word}/--no-{word}" if "is_flag" in attributes and "default" in attributes else f"--{word}"
        aliases = [f"--{alias}" for alias in attributes.get("aliases", ())]
        plain = {key: value for key, value in attributes.items() if key not in ("option", "aliases")}
        decorated = click.option(declared, *aliases, member, **plain)(decorated)
    return decorated
