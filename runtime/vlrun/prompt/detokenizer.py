"""Token ids to text while they are generated: whole characters only, and stop strings across pieces."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class Detokenizer:
    """Streaming decoder of one answer. Control tokens are skipped."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._tokens: list[int] = []
        self._text = ""

    def push(self, token: int) -> str:
        """Return the text that ``token`` completes; empty while a character is incomplete."""
        self._tokens.append(token)
        text: str = self._stream.step(self._tokenizer, token) or ""
        self._text += text
        return text

    def flush(self) -> str:
        """Return the text held back at the end of the answer, without the bytes of an incomplete character."""
        whole: str = self._tokenizer.decode(self._tokens)
        return whole.removeprefix(self._text).rstrip("\ufffd") if whole.startswith(self._text) else ""


class StopStrings:
    """Holds text back while it may be the beginning of a stop string.

    The output never contains a stop string, nor a part of one that was completed later.

    Attributes:
        found: Whether a stop string occurred.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.found = False
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> str:
        """Return the text that is safe to show; nothing once a stop string was found."""
        if self.found:
            return ""
        self._held += text
        starts = [start for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if starts:
            self.found = True
            text, self._held = self._held[: min(starts)], ""
            return text
        safe = len(self._held) - self._partial_stop()
        text, self._held = self._held[:safe], self._held[safe:]
        return text

    def flush(self) -> str:
        """Return what was held back, at the end of the answer."""
        text, self._held = self._held, ""
        return text

    def _partial_stop(self) -> int:
        """Length of the longest suffix of the held text that is a prefix of a stop string."""
        return max(
            (
                length
                for stop in self._stops
                for length in range(min(len(stop) - 1, len(self._held)), 0, -1)
                if self._held.endswith(stop[:length])
            ),
            default=0,
        )
