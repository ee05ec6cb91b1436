"""Prompt lookup: guesses at the next tokens out of the text so far, to be verified in one pass.

Where an answer copies (a transcript, a table, a list), what followed the same few tokens before follows again. How many
tokens are guessed adapts to how many were right; where guesses do not pay, they pause. Knows ids only. After Apoorv
Saxena, "Prompt Lookup Decoding", 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_MATCH, SHORTEST_MATCH = 4, 2
"""Tokens at the end of the text that must have occurred before, together."""

MOST_GUESSED = 8
PAUSE = 8
LONGEST_PAUSE = 256
"""Tokens for which nothing is guessed after a guess that was all wrong; doubled each time up to the longest."""


class PromptLookup:
    """Guesses for one answer. ``text``: prompt and answer, to which the owner appends."""

    def __init__(self, text: list[int]) -> None:
        self._text = text
        self._places: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._most = MOST_GUESSED // 2
        self._pause = PAUSE
        self._silent_until = 0
        self._index()  # of the prompt, in the caller's thread

    def guess(self, most: int) -> list[int]:
        """At most ``most`` tokens that may come next; none if the text says nothing or guesses did not pay."""
        self._index()
        if len(self._text) < self._silent_until:
            return []
        for size in range(LONGEST_MATCH, SHORTEST_MATCH - 1, -1):
            place = self._places.get(tuple(self._text[-size:]))
            if place is not None:
                return self._text[place : place + min(most, self._most)]
        return []

    def learn(self, guessed: int, right: int) -> None:
        """Say how many of the guessed tokens were right."""
        if not guessed:
            return
        if right == guessed:
            self._most = min(self._most * 2, MOST_GUESSED)
            self._pause = PAUSE
        elif right == 0:
            self._most = max(self._most // 2, 1)
            self._silent_until = len(self._text) + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _index(self) -> None:
        """Remember what followed each few tokens, the latest place winning; the end of the text follows nothing yet."""
        for end in range(max(self._indexed, SHORTEST_MATCH), len(self._text)):
            for size in range(SHORTEST_MATCH, min(LONGEST_MATCH, end) + 1):
                self._places[tuple(self._text[end - size : end])] = end
        self._indexed = max(self._indexed, len(self._text))


def verified(guessed: Sequence[int], chosen: Sequence[int]) -> int:
    """How many guesses were right, given the tokens chosen one after the other."""
    right = 0
    for guess, token in zip(guessed, chosen, strict=False):
        if guess != token:
            break
        right += 1
    return right
