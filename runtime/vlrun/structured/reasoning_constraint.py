"""Ends the reasoning of a Thinking model in time, and applies the grammar of the answer only after it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlrun.engine.sampler import Constraint
from vlrun.errors import OptionError
from vlrun.prompt.reasoning import ReasoningTokens
from vlrun.structured.grammar import allow_only
from vlrun.types.arrays import FloatArray


class ReasoningConstraint:
    """The state of one output: free reasoning within its budget, then the answer.

    Args:
        tokens: The control tokens of the reasoning.
        begun: Whether the prompt has begun the reasoning. Otherwise the model may begin it with its first token.
        budget: Tokens of the reasoning, after which its end is forced.
        answer: Restricts the answer; None allows any text.
        eos: Tokens that end the output; forbidden in the reasoning if the answer is restricted.
    """

    def __init__(
        self, tokens: ReasoningTokens, begun: bool, budget: int, answer: Constraint | None, eos: Sequence[int]
    ) -> None:
        self._tokens = tokens
        self._active = begun
        self._may_begin = not begun
        self._left = budget
        self._answer = answer
        self._eos = list(eos)
        self._separator: list[int] = []

    def mask(self, scores: FloatArray) -> None:
        """Set the ``scores [vocab_size]`` of forbidden tokens to minus infinity, in place."""
        if forced := self._forced_before_answer():
            allow_only(scores, forced[:1])
        elif self._active and self._answer is not None:
            scores[self._eos] = -np.inf
        elif not self._active and self._answer is not None:
            self._answer.mask(scores)

    def accept(self, token: int) -> None:
        """Advance by the sampled token. Raises OptionError for a forbidden one."""
        forced = self._forced_before_answer()
        if forced and token != forced[0]:
            raise OptionError(f"token {token} may not follow: the reasoning is over")
        may_begin, self._may_begin = self._may_begin, False
        if self._active:
            self._left -= 1
            if token == self._tokens.end:
                self._active = False
                self._separator = [] if self._answer is None else list(self._tokens.separator)
        elif self._separator:
            self._separator.pop(0)
        elif may_begin and token == self._tokens.begin:
            self._active = True
        elif self._answer is not None:
            self._answer.accept(token)

    def forced(self) -> Sequence[int]:
        """Return the tokens that must come next; empty if there is a choice."""
        if self._active or self._separator:
            return self._forced_before_answer()
        return [] if self._answer is None else self._answer.forced()

    def _forced_before_answer(self) -> list[int]:
        if self._active:
            return [self._tokens.end] if self._left <= 0 else []
        return self._separator
