"""Parses tool calls in the text of an answer while it is generated."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vlrun.models.family import ToolCallFormat
from vlrun.prompt.detokenizer import partial_match
from vlrun.types.turn import ToolCall

_IN_STRING = re.compile(r'"|\\.', re.DOTALL)


class ToolCallParser:
    """Streaming parser that separates the text of one answer from its tool calls. White space around calls is dropped.

    An invalid or incomplete call stays text, with its control tokens.
    """

    def __init__(self, call_format: ToolCallFormat) -> None:
        self._format = call_format
        self._outside_string = re.compile(f'"|{re.escape(call_format.end)}')
        self._buffer = ""
        self._in_call = False
        self._after_call = False  # only white space since the last call
        self._space = ""  # white space before a call, restored if the call is invalid
        self._scanned = 0  # length of the buffer that was searched for the end of the call
        self._in_string = False  # whether that position is in a JSON string, where the end token is text

    def push(self, text: str) -> list[str | ToolCall]:
        """Return complete text and calls. Text is held back only while a call may begin in it."""
        self._buffer += text
        return list(self._complete())

    def flush(self) -> list[str | ToolCall]:
        """Return the text held back, at the end of the answer."""
        rest = self._space + self._buffer if self._in_call else self._buffer
        self._buffer, self._in_call = "", False
        return [rest] if rest else []

    def _complete(self) -> Iterator[str | ToolCall]:
        begin, end = len(self._format.begin), len(self._format.end)
        while True:
            if not self._in_call:
                yield from self._text()
            if not self._in_call or (length := self._call_length()) is None:
                return
            written, self._buffer = self._buffer[:length], self._buffer[length:]
            self._in_call, self._scanned = False, 0
            call = self._format.parse(written[begin:-end])
            self._after_call = call is not None
            yield call or self._space + written

    def _text(self) -> Iterator[str]:
        """Yield the text up to the next call, or as far as no call can begin in it."""
        if self._after_call:
            self._buffer = self._buffer.lstrip()
        start = self._buffer.find(self._format.begin)
        self._in_call = start >= 0
        kept = start if self._in_call else len(self._buffer) - partial_match(self._buffer, [self._format.begin])
        text = self._buffer[:kept].rstrip()
        if self._in_call:
            self._space, self._scanned = self._buffer[len(text) : start], len(self._format.begin)
        self._buffer = self._buffer[start if self._in_call else len(text) :]
        if text:
            self._after_call = False
            yield text

    def _call_length(self) -> int | None:
        """Return the length of the buffered call, None while it is incomplete. Scans each character once."""
        while found := (_IN_STRING if self._in_string else self._outside_string).search(self._buffer, self._scanned):
            self._scanned = found.end()
            if found[0] == self._format.end:
                return self._scanned
            self._in_string ^= found[0] == '"'
        # The buffer may end in the middle of an escape or of the end token.
        unsure = self._buffer.endswith("\\") if self._in_string else len(self._format.end) - 1
        self._scanned = max(self._scanned, len(self._buffer) - unsure)
        return None


def find_tool_calls(text: str, call_format: ToolCallFormat) -> tuple[ToolCall, ...]:
    """Return the complete and valid calls of an answer."""
    return tuple(piece for piece in ToolCallParser(call_format).push(text) if isinstance(piece, ToolCall))
