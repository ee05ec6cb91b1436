"""The shared options of the commands."""

from __future__ import annotations

from dataclasses import fields

from vlrun.backends.openvino.hints import Hints
from vlrun.cli import options as cli_options
from vlrun.types.options import MAX_TOKENS, Options


def test_help_shows_the_real_defaults() -> None:
    """The numbers in the help equal those in the code, and every option reaches a field."""
    # Tasks set the token budgets, --heatmap the heat map; the last two are for the service.
    set_elsewhere = {"min_image_tokens", "auto_image_tokens", "heatmap", "logprobs", "progress"}
    assert set(cli_options.ANSWER_OPTIONS) == {field.name for field in fields(Options)} - set_elsewhere
    assert set(cli_options.HINT_OPTIONS) == {field.name for field in fields(Hints)}
    given = {**cli_options.ANSWER_OPTIONS, **cli_options.HINT_OPTIONS}
    assert cli_options.ANSWER_OPTIONS["max_tokens"]["help"].endswith(f"[default: {MAX_TOKENS}]")
    for owner in (Options(), Hints()):
        for field in fields(owner):
            if field.name in set_elsewhere:
                continue
            value, help_text = getattr(owner, field.name), given[field.name]["help"]
            if isinstance(value, bool):
                assert help_text.endswith("[default: yes]") == value
            elif value and field.name != "device":
                assert help_text.endswith(f"[default: {value}]"), help_text
