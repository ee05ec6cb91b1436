"""A validated request, before the model runs."""

from __future__ import annotations

from dataclasses import dataclass

from vlrun.engine.request import Cancellation
from vlrun.prompt.builder import BuiltPrompt
from vlrun.prompt.reasoning import ReasoningTokens
from vlrun.structured.answer_checks import NO_CHECKS, AnswerChecks
from vlrun.structured.tool_grammar import AnswerGrammar


@dataclass(frozen=True)
class PreparedRequest:
    """A prompt and the grammar of its answer.

    Attributes:
        prompt: The prompt.
        grammar: Restricts the answer; None allows any text.
        seconds: Time to validate the request, and of that for the grammar.
        cancellation: Cancels the request.
        may_call_tools: Whether the answer may call tools.
        reasoning: The control tokens around the reasoning; None if the output is not split.
    """

    prompt: BuiltPrompt
    grammar: AnswerGrammar | None
    seconds: tuple[float, float]
    cancellation: Cancellation
    may_call_tools: bool
    reasoning: ReasoningTokens | None

    @property
    def checks(self) -> AnswerChecks:
        """What the answer is checked for."""
        return self.grammar.checks if self.grammar else NO_CHECKS
