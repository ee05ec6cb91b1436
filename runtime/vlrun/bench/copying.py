"""Measures how many decoder passes prompt lookup saves when the embedded model copies text."""

from __future__ import annotations

from dataclasses import dataclass, replace

import vlrun

REQUEST = "Copy this text:\n"
PAGES = (
    "12 red bottles $17.81\n3 blue cans $4.20\n7 green boxes $30.15\n1 yellow bags $2.99",
    "please show me the picture\nhow many can you see\nthe left one and the right one",
    "10 purple bags $12.50\n20 purple cans $12.50\n30 purple boxes $12.50",
    "红色、瓶子\n蓝色、罐子\n绿色、盒子\n5 orange bottles $8.05",
)
"""A bill, a letter, a repetitive list and a bilingual page, in words that the embedded model knows."""


@dataclass(frozen=True)
class CopyingResult:
    """Measurements of the pages that were copied without errors.

    Attributes:
        plain: Decoder passes without prompt lookup.
        lookup: Decoder passes with prompt lookup.
        tokens: Tokens of these pages.
        right: Number of these pages.
        pages: Number of all pages.
    """

    plain: int
    lookup: int
    tokens: int
    right: int
    pages: int

    @property
    def summary(self) -> str:
        """The result in a sentence."""
        if not self.plain:
            return f"prompt lookup: not measured, because none of {self.pages} pages was copied without errors"
        return (
            f"prompt lookup: {self.right} of {self.pages} pages copied without errors, {self.tokens} tokens; "
            f"{self.lookup} decoder passes, {self.plain} without prompt lookup (ratio {self.lookup / self.plain:.2f})"
        )


def measure_copying() -> CopyingResult:
    """Let the embedded model copy each page, with and without prompt lookup."""
    plain = lookup = tokens = right = 0
    with vlrun.load() as vlm:
        for page in PAGES:
            options = vlrun.Options(temperature=0, max_tokens=256)
            slow = vlm.ask([], REQUEST + page, replace(options, prompt_lookup=False))
            fast = vlm.ask([], REQUEST + page, options)
            if slow.text == fast.text == page:
                plain, lookup = plain + slow.usage.forward_passes, lookup + fast.usage.forward_passes
                tokens, right = tokens + slow.usage.completion_tokens, right + 1
    return CopyingResult(plain, lookup, tokens, right, len(PAGES))
