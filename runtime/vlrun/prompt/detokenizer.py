"""Ids into text while they come: no character is ever split, and stop strings are found across pieces.

Knows the tokenizer; does not know why generation goes on or ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class Detokenizer:
    """Streaming decoder of one answer. Control tokens are left out."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._tokens: list[int] = []
        self._shown = ""

    def push(self, token: int) -> str:
        """The text that ``token`` completes; empty while the bytes of a character are incomplete."""
        self._tokens.append(token)
        text: str = self._stream.step(self._tokenizer, token) or ""
        self._shown += text
        return text

    def flush(self) -> str:
        """Text that waited for the end of a character, when no more will come; the bytes of a half one are dropped."""
        whole: str = self._tokenizer.decode(self._tokens)
        return whole.removeprefix(self._shown).rstrip("\ufffd") if whole.startswith(self._shown) else ""


class StopStrings:
    """Holds text back as long as it may be the beginning of a stop string.

    What comes out never contains a stop string, nor a part of one that was completed later.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """Text that is safe to show. After a stop string ``found`` is true and nothing more comes out."""
        if self.found:
            return ""
        self._held += text
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.found = True
            shown, self._held = self._held[: min(places)], ""
            return shown
        keep = self._longest_beginning()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """What was held back, at the end of the answer."""
        shown, self._held = self._held, ""
        return shown

    def _longest_beginning(self) -> int:
        """Length of the longest end of the held text that some stop string begins with."""
        return max(
            (
                length
                for stop in self._stops
                for length in range(min(len(stop) - 1, len(self._held)), 0, -1)
                if self._held.endswith(stop[:length])
            ),
            default=0,
        )
