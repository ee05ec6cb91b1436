"""Separates the reasoning of a Thinking model from its answer while both are generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlrun.models.family import ReasoningFormat
from vlrun.prompt.chat_template import ChatTemplate

LINE_ENDS = "\n"
"""Templates write them around the reasoning and remove them from it."""


@dataclass(frozen=True)
class ReasoningTokens:
    """The token ids of a model's reasoning format.

    Attributes:
        begin: Control token before the reasoning.
        end: Control token after the reasoning.
        end_name: The text of ``end``.
        separator: Tokens between ``end`` and the answer.
    """

    begin: int
    end: int
    end_name: str
    separator: Sequence[int]


def reasoning_tokens(notation: ReasoningFormat, template: ChatTemplate) -> ReasoningTokens | None:
    """Return the ids of a reasoning format; None if the model's tokenizer does not have its control tokens."""
    begin, end = template.control_token(notation.begin), template.control_token(notation.end)
    if begin is None or end is None:
        return None
    return ReasoningTokens(begin, end, notation.end, template.encode_text(notation.separator))


class ReasoningSplitter:
    """Splits the output of one request. The reasoning ends with its control token, not with the same letters as text.

    Line ends around the reasoning and before the answer belong to neither.

    Args:
        tokens: The control tokens; None if the model has none, so that all is the answer.
        opening: What the prompt opens (`Prompt.opening`): the template of a Thinking model opens the reasoning.

    Attributes:
        active: Whether the output is in the reasoning.
        tokens: Number of tokens of the reasoning.
        opening: All text before the answer.
    """

    def __init__(self, tokens: ReasoningTokens | None, opening: int | None) -> None:
        self.active = tokens is not None and opening == tokens.begin
        self.tokens = 0
        self.opening = ""
        self._tokens = tokens
        self._held = ""  # line ends that may be the last of the reasoning
        self._has_reasoning = False
        self._has_answer = False
        self._after = False  # the reasoning is over and the answer has no text yet

    def push(self, token: int, text: str) -> tuple[str, str]:
        """Return what ``token`` and its ``text`` add to the reasoning and to the answer."""
        control = self._tokens
        if control is None:
            return "", text
        if self.active and token == control.end:
            before = text.removesuffix(control.end_name)
            self.opening += text
            self.active, self._after = False, True
            return self._reasoning(before), ""
        if not self.active and not self._has_answer and not self._after and token == control.begin:
            self.active = True
            self.opening += text
            return "", ""
        self.tokens += self.active
        return self.text(text)

    def text(self, text: str) -> tuple[str, str]:
        """Return what ``text``, the rest of the output, adds to the reasoning and to the answer."""
        if self.active:
            self.opening += text
            return self._reasoning(text), ""
        answer = text.lstrip(LINE_ENDS) if self._after and not self._has_answer else text
        if not self._has_answer and self._after:
            self.opening += text[: len(text) - len(answer)]
        self._has_answer = self._has_answer or bool(answer)
        return "", answer

    def _reasoning(self, text: str) -> str:
        text = self._held + text
        if not self._has_reasoning:
            text = text.lstrip(LINE_ENDS)
        kept = text.rstrip(LINE_ENDS)
        self._held = text[len(kept) :]
        self._has_reasoning = self._has_reasoning or bool(kept)
        return kept
