"""The fields by which clients turn the reasoning of Thinking models off, or limit it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from vlrun.server.api.schemas import Ignored, RequestStruct, ThinkingTokens

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
"""Only ``none`` changes anything: it turns the reasoning off."""


class TemplateArguments(RequestStruct):
    """What clients of other servers pass to the template."""

    enable_thinking: bool | None = None


class Thinking(RequestStruct):
    """The switch and the budget of the reasoning, as in Anthropic's API."""

    type: Literal["enabled", "disabled"]
    budget_tokens: ThinkingTokens | None = None


class Reasoning(RequestStruct):
    """The reasoning of responses. It is never summarized."""

    effort: Effort | None = None
    summary: Ignored | None = None
    generate_summary: Ignored | None = None


def thinking_tokens(
    effort: Effort | None,
    enabled: bool | None = None,
    arguments: TemplateArguments | None = None,
    thinking: Thinking | None = None,
    budget: int | None = None,
) -> int | None:
    """Return the budget of the reasoning: 0 if any field turns it off, None for the default."""
    switches = (enabled, arguments and arguments.enable_thinking, thinking and thinking.type == "enabled")
    if effort == "none" or any(switch is False for switch in switches):
        return 0
    return thinking.budget_tokens if budget is None and thinking else budget
