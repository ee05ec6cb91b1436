"""Prompt lookup decoding: guess the next tokens from earlier text and verify them in one forward pass.

Where an answer copies text (transcripts, tables, lists), an n-gram is often followed by the same tokens as before. The
number of guesses adapts to the hit rate, and guessing pauses while it does not pay. After Apoorv Saxena, "Prompt Lookup
Decoding", 2023.
"""

from __future__ import annotations

MAX_MATCH, MIN_MATCH = 4, 2
"""Tokens in the n-gram that is looked up."""
MAX_GUESSES = 8
MIN_PAUSE, MAX_PAUSE = 8, 256
"""Tokens without guesses after a completely wrong guess; doubled each time."""


class PromptLookup:
    """Guesses for one sequence.

    Args:
        tokens: Prompt and output; the owner appends to it.
    """

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._positions: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._max_guesses = MAX_GUESSES // 2
        self._pause = MIN_PAUSE
        self._paused_until = 0
        self._index()  # indexes the prompt in the caller's thread

    def guess(self, max_guesses: int) -> list[int]:
        """Return up to ``max_guesses`` likely next tokens; none if nothing matches or guessing is paused."""
        self._index()
        if len(self._tokens) < self._paused_until:
            return []
        for size in range(MAX_MATCH, MIN_MATCH - 1, -1):
            position = self._positions.get(tuple(self._tokens[-size:]))
            if position is not None:
                return self._tokens[position : position + min(max_guesses, self._max_guesses)]
        return []

    def update(self, guessed: int, right: int) -> None:
        """Adapt to the number of right guesses."""
        if not guessed:
            return
        if right == guessed:
            self._max_guesses = min(self._max_guesses * 2, MAX_GUESSES)
            self._pause = MIN_PAUSE
        elif right == 0:
            self._max_guesses = max(self._max_guesses // 2, 1)
            self._paused_until = len(self._tokens) + self._pause
            self._pause = min(self._pause * 2, MAX_PAUSE)

    def _index(self) -> None:
        """Index what followed each n-gram; the latest occurrence wins."""
        for end in range(max(self._indexed, MIN_MATCH), len(self._tokens)):
            for size in range(MIN_MATCH, min(MAX_MATCH, end) + 1):
                self._positions[tuple(self._tokens[end - size : end])] = end
        self._indexed = max(self._indexed, len(self._tokens))
