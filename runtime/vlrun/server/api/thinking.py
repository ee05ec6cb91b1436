"""The fields by which clients turn the reasoning of Thinking models off, or limit it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from vlrun.server.api import fields
from vlrun.server.api.schemas import RequestStruct, ThinkingTokens

Effort: TypeAlias = Literal["none", "disable", "minimal", "low", "medium", "high", "xhigh", "max", "auto", "default"]
"""Only ``none`` and ``disable`` change anything: they turn the reasoning off."""


class TemplateArguments(RequestStruct):
    """What clients of other servers pass to the template."""

    unused = fields.TEMPLATE_ARGUMENTS
    enable_thinking: bool | None = None
    thinking: bool | None = None


class Thinking(RequestStruct):
    """The switch and the budget of the reasoning, as in Anthropic's API."""

    unused = fields.THINKING
    type: Literal["enabled", "disabled", "adaptive", "auto"]
    budget_tokens: ThinkingTokens | None = None


class Reasoning(RequestStruct):
    """The reasoning as responses and OpenRouter's chat completions have it. It is never summarized."""

    unused = fields.REASONING
    effort: Effort | None = None
    enabled: bool | None = None
    max_tokens: ThinkingTokens | None = None


def thinking_tokens(
    effort: Effort | None = None,
    enabled: bool | None = None,
    arguments: TemplateArguments | None = None,
    thinking: Thinking | None = None,
    budget: int | None = None,
    reasoning: Reasoning | None = None,
) -> int | None:
    """Return the budget of the reasoning: 0 if any field turns it off, None for the default."""
    reasoning, arguments = reasoning or Reasoning(), arguments or TemplateArguments()
    switches = (enabled, reasoning.enabled, arguments.enable_thinking, arguments.thinking)
    off = thinking is not None and thinking.type == "disabled"
    if off or {effort, reasoning.effort} & {"none", "disable"} or any(switch is False for switch in switches):
        return 0
    budgets = (budget, thinking.budget_tokens if thinking else None, reasoning.max_tokens)
    return next((one for one in budgets if one is not None), None)
