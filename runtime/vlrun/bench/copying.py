"""The copying task: how many decoder passes prompt lookup saves where the embedded model copies pages of text."""

from __future__ import annotations

from dataclasses import dataclass

import vlrun

REQUEST = "Copy this text:\n"
PAGES = (
    "12 red bottles $17.81\n3 blue cans $4.20\n7 green boxes $30.15\n1 yellow bags $2.99",
    "please show me the picture\nhow many can you see\nthe left one and the right one",
    "OPEN 900\n10 purple bags $12.50\n10 purple cans $12.50\n10 purple boxes $12.50\nTAXI 4711",
    "红色、瓶子\n蓝色、罐子\n绿色、盒子\n5 orange bottles $8.05",
)
"""A bill, a letter, a list that repeats itself, and a page in two languages, of words that the embedded model knows."""


@dataclass(frozen=True)
class CopyingResult:
    """Decoder passes for the pages that were copied word for word, ``plain`` and with prompt ``lookup``.

    ``tokens``: of these pages; ``right``: how many of all ``pages`` they are.
    """

    plain: int
    lookup: int
    tokens: int
    right: int
    pages: int

    @property
    def summary(self) -> str:
        """The figures in a sentence."""
        if not self.plain:
            return f"copying: none of {self.pages} pages was copied word for word, so nothing was measured"
        return (
            f"copying {self.right} of {self.pages} pages word for word, {self.tokens} tokens: {self.lookup} decoder "
            f"passes with prompt lookup, {self.plain} without (ratio {self.lookup / self.plain:.2f})"
        )


def measure_copying() -> CopyingResult:
    """Let the embedded model copy every page, with and without prompt lookup."""
    plain = lookup = tokens = right = 0
    with vlrun.load() as vlm:
        for page in PAGES:
            slow = vlm.ask([], REQUEST + page, _options(prompt_lookup=False))
            fast = vlm.ask([], REQUEST + page, _options(prompt_lookup=True))
            if slow.text == fast.text == page:
                plain, lookup = plain + slow.usage.forward_passes, lookup + fast.usage.forward_passes
                tokens, right = tokens + slow.usage.completion_tokens, right + 1
    return CopyingResult(plain, lookup, tokens, right, len(PAGES))


def _options(*, prompt_lookup: bool) -> vlrun.Options:
    return vlrun.Options(temperature=0, max_tokens=256, prompt_lookup=prompt_lookup)
