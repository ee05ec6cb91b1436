"""Converts generated tokens to text: whole characters only, up to a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from vlrun.errors import DamagedModel, panics_as


class Detokenizer:
    """Streaming detokenizer of one answer. Control tokens are skipped."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._tokens: list[int] = []
        self._text = ""

    @panics_as(DamagedModel, "the model's tokenizer fails on a token that the model generated")
    def push(self, token: int) -> str:
        """Return the text that ``token`` completes; empty while a character is incomplete."""
        self._tokens.append(token)
        text: str = self._stream.step(self._tokenizer, token) or ""
        self._text += text
        return text

    @panics_as(DamagedModel, "the model's tokenizer fails on the tokens that the model generated")
    def flush(self) -> str:
        """Return the remaining text at the end of the answer, without an incomplete character."""
        whole: str = self._tokenizer.decode(self._tokens)
        return whole.removeprefix(self._text).rstrip("\ufffd") if whole.startswith(self._text) else ""


class StopStrings:
    """Ends text before the first stop string. Text is held back while a stop string may begin in it.

    Attributes:
        found: The stop string that occurred.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.found: str | None = None
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> str:
        """Return the text that cannot be part of a stop string; nothing after a stop string."""
        if self.found is not None:
            return ""
        self._held += text
        starts = [(start, stop) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if starts:
            start, self.found = min(starts)
            text, self._held = self._held[:start], ""
            return text
        safe = len(self._held) - partial_match(self._held, self._stops)
        text, self._held = self._held[:safe], self._held[safe:]
        return text

    def flush(self) -> str:
        """Return the text held back, at the end of the answer."""
        text, self._held = self._held, ""
        return text


def partial_match(text: str, patterns: Sequence[str]) -> int:
    """Return the length of the longest suffix of ``text`` that is the incomplete beginning of a pattern."""
    return max(
        (n for pattern in patterns for n in range(min(len(pattern), len(text) + 1)) if text.endswith(pattern[:n])),
        default=0,
    )
