"""Validation of turns and tool choices."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.scripted_vlm import INSTRUCT_TEMPLATE, ScriptedVLM
from vlrun.conversation import Conversation
from vlrun.errors import OptionError
from vlrun.tasks.request import TaskRequest
from vlrun.tasks.run import run_task
from vlrun.types.turn import ToolChoice, Turn


def test_an_unknown_choice_is_refused() -> None:
    """Guards callers without a type checker: an unknown mode would behave like ``auto``."""
    with pytest.raises(OptionError, match="auto, required, none"):
        ToolChoice("any")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ask",
    [
        lambda vlm, system: vlm.ask([], "Hi", system=system),
        lambda vlm, system: Conversation(vlm, system=system).ask("Hi"),
        lambda vlm, system: run_task(vlm, [], TaskRequest("Hi", system=system)),
    ],
    ids=["ask", "conversation", "task"],
)
@pytest.mark.parametrize("system", [None, "", "Be brief."])
def test_a_system_prompt_is_the_same_wherever_it_is_given(
    ask: Callable[[ScriptedVLM, str | None], object], system: str | None
) -> None:
    """An empty one is none."""
    vlm = ScriptedVLM(INSTRUCT_TEMPLATE)
    ask(vlm, system)
    turns = [*([Turn("system", (system,))] if system else []), Turn("user", ("Hi",))]
    assert [list(request.ids) for request in vlm.scripted.requests] == [list(vlm.build_prompt(turns).prompt.ids)]
