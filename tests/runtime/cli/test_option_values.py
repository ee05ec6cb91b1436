"""Every option of every command, with values at and beyond the edge: accepted, or one sentence that names it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import click
import pytest

from tests.paths import EXAMPLES
from vlrun.cli.commands import commands
from vlrun.errors import ModelError, OptionError, OutputError, VlrunError

SHELF, NOWHERE = str(EXAMPLES / "shelf.png"), "/no/such/folder"
NUMBERS = ["nan", "inf", "-inf", "1e999", "-1", "-0.5", "0", "9" * 30, "1" * 5000, "", " ", "x", "0x10", "1,5", "٣"]
TEXTS = ["", " "]
NOT_NUMBERS = {"nan", "inf", "-inf", "1e999", "", " ", "x", "0x10", "1,5", "1" * 5000}
"""Refused by every option that takes a number."""

BEFORE: Mapping[str, Sequence[str]] = {
    "ask": [SHELF, "Hi", "--model", NOWHERE],
    "bench": ["--model", NOWHERE],
    "chat": ["--model", NOWHERE],
    "plan": [SHELF, "--model", NOWHERE],
    "tune": ["--model", NOWHERE],
}
"""Arguments with which a command ends without running a model. What an option gives twice, it gives last."""
PARSED_ONLY = {"serve"}
"""Commands that would open a socket."""
OWN_WORDS = {"question": "question", "stop": "stop strings", "schema": "schema", "region": "region", "tiles": "tiles"}
OWN_WORDS |= {"task": "no task", "items": "names is empty", "fields": "names is empty", "draw": "cannot write"}
OWN_WORDS |= {"heatmap": "cannot write", "tasks": "tasks"}
"""What the message has instead of the option's name."""


def options_of(name: str) -> Iterator[click.Option]:
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    yield from (param for param in command.params if isinstance(param, click.Option) and not param.is_flag)


def result_of(name: str, arguments: Sequence[str]) -> BaseException | None:
    """Return the error of a command, as ``run`` gets it."""
    try:
        if name in PARSED_ONLY:
            command = commands.get_command(click.Context(commands), name)
            assert command is not None
            command.make_context(name, list(arguments))
        else:
            commands.main([name, *arguments], standalone_mode=False)
    except (click.ClickException, VlrunError) as error:
        return error
    return None


CASES = [
    (name, option, value)
    for name in (*BEFORE, *PARSED_ONLY, "tasks")
    for option in options_of(name)
    for value in (NUMBERS if isinstance(option.type, click.types.IntParamType | click.types.FloatParamType) else TEXTS)
]


@pytest.mark.parametrize("name", [*BEFORE, *PARSED_ONLY, "tasks"])
def test_values_at_the_edge_are_accepted_or_named(name: str) -> None:
    """``--deadline nan`` and ``--name ''`` were accepted."""
    wrong = []
    for _, option, value in (case for case in CASES if case[0] == name):
        flag = max(option.opts, key=len)
        error = result_of(name, [*BEFORE.get(name, ()), f"{flag}={value}"])
        numeric = isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
        must_fail = value in NOT_NUMBERS if numeric else not value
        if isinstance(error, ModelError) or error is None:  # the value is accepted
            if must_fail:
                wrong.append(f"{flag}={value!r:.20} is accepted: {error!r:.80}")
        elif not isinstance(error, click.UsageError | OptionError | OutputError):
            wrong.append(f"{flag}={value!r:.20}: {error!r:.200}")
        else:
            message = error.format_message() if isinstance(error, click.ClickException) else str(error)
            member = flag.removeprefix("--")
            words = (member, member.replace("-", "_"), OWN_WORDS.get(member, member))
            if not any(word in message for word in words):
                wrong.append(f"{flag}={value!r:.20} is not named: {message:.120}")
    assert not wrong
