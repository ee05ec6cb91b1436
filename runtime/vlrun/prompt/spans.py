"""Finds what is not text in a rendered conversation: the template's control tokens, and generated text with its ids."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from vlrun.prompt.detokenizer import Detokenizer
from vlrun.prompt.traced_text import TEMPLATE, TracedText, origins_of, plain
from vlrun.types.turn import GeneratedText


@dataclass(frozen=True, order=True)
class Span:
    """Characters ``start`` to ``end`` of a rendering, and their token ids."""

    start: int
    end: int
    ids: tuple[int, ...]
    generated: bool = False


class GeneratedTexts:
    """The generated texts of a conversation. Their characters are counted through, with a gap between two texts."""

    def __init__(self) -> None:
        self._texts: list[GeneratedText] = []
        self._bases: list[int] = []
        self._next = 0

    def add(self, text: GeneratedText) -> TracedText:
        """Add a text, and return it with its origins."""
        self._texts.append(text)
        self._bases.append(self._next)
        origins = np.arange(self._next, self._next + len(text.text), dtype=np.int32)
        self._next += len(text.text) + 1
        return TracedText(text.text, origins)

    def find(self, origin: int) -> tuple[GeneratedText, int]:
        """Return the text of an origin, and the position in it."""
        index = bisect.bisect_right(self._bases, origin) - 1
        return self._texts[index], origin - self._bases[index]


class SpanFinder:
    """Finds the spans of renderings.

    Args:
        control: Ids of the control tokens by name.
        pattern: Matches their names.
        tokenizer: The model's tokenizer.
    """

    def __init__(self, control: Mapping[str, int], pattern: re.Pattern[str], tokenizer: Tokenizer) -> None:
        self._control = control
        self._names = {token: name for name, token in control.items()}
        self._pattern = pattern
        self._tokenizer = tokenizer

    def find(self, rendered: str, generated: GeneratedTexts) -> list[Span]:
        """Return the spans of a rendering in order. They do not overlap.

        Generated text has its own ids where all of it is there, even if the template wrote a part of it again: it may
        take an answer apart and put the same together. Of generated text that the template changed, only the control
        tokens are spans.
        """
        text = plain(rendered)
        control = list(self._control_spans(text, rendered))
        spans: list[Span] = []
        for start, end, origin in _generated_runs(rendered):
            if spans and end <= spans[-1].end:
                continue
            source, position = generated.find(origin)
            whole = Span(start - position, start - position + len(source.text), source.ids, generated=True)
            if self._is_whole(whole, text, rendered, source, origin - position, control):
                spans.append(whole)
            else:
                spans += self._control_in(source, position, position + end - start, start)
        starts = [span.start for span in spans]
        return sorted([*spans, *(span for span in control if not _is_covered(span, spans, starts))])

    def _control_spans(self, text: str, rendered: str) -> Iterator[Span]:
        """Yield the control tokens that the template wrote."""
        written = (origins_of(rendered) == TEMPLATE).astype(np.int8)
        edges = np.flatnonzero(np.diff(written, prepend=0, append=0)).tolist()
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            for match in self._pattern.finditer(text, start, end):
                yield Span(match.start(), match.end(), (self._control[match.group()],))

    @staticmethod
    def _is_whole(
        span: Span, text: str, rendered: str, source: GeneratedText, base: int, control: Sequence[Span]
    ) -> bool:
        """Return whether a span has all of a generated text, and nothing of the caller's."""
        if span.start < 0 or text[span.start : span.end] != source.text:
            return False
        origins = origins_of(rendered)[span.start : span.end]
        own = np.arange(base, base + len(source.text))
        cut = any(one.start < edge < one.end for one in control for edge in (span.start, span.end))
        return not cut and bool(((origins == TEMPLATE) | (origins == own)).all())

    def _control_in(self, source: GeneratedText, first: int, last: int, start: int) -> Iterator[Span]:
        """Yield the control tokens in the characters ``first`` to ``last`` of a text that is cut off at ``start``."""
        detokenizer, length = Detokenizer(self._tokenizer), 0
        for token in source.ids:
            length += len(detokenizer.push(token))
            name = self._names.get(token, "")
            begin = length - len(name)
            if name and begin >= first and length <= last and source.text[begin:length] == name:
                yield Span(start + begin - first, start + length - first, (token,))


def _generated_runs(rendered: str) -> Iterator[tuple[int, int, int]]:
    """Yield start, end and first origin of each run of generated text."""
    origins = origins_of(rendered)
    places = np.flatnonzero(origins >= 0)
    if not len(places):
        return
    breaks = np.flatnonzero((np.diff(places) != 1) | (np.diff(origins[places]) != 1)) + 1
    for run in np.split(places, breaks):
        yield int(run[0]), int(run[-1]) + 1, int(origins[run[0]])


def _is_covered(span: Span, others: Sequence[Span], starts: Sequence[int]) -> bool:
    """Return whether one of the other spans, which begin at ``starts``, has this span in it."""
    index = bisect.bisect_right(starts, span.start) - 1
    return index >= 0 and span.end <= others[index].end
