"""Limits on what a chat template may use: time, text, lists and numbers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jinja2
from jinja2.utils import Namespace

MAX_TEMPLATE = 2**16
"""Characters of a template: ten times the published ones. Jinja2 compiles to Python, which took 12 s and 600 MB for a
megabyte of empty blocks."""
MAX_SECONDS = 5.0
"""Processor time to render a prompt: a thousand times what the published templates take for an ordinary one."""
MAX_ITEMS = 100_000
"""Elements of a list or pieces of a text that a template makes, as many as Jinja2's sandbox allows in a range."""
MAX_NUMBER = 10_000
"""Numbers passed to functions and filters, such as widths; a range may have ``MAX_ITEMS``."""
MAX_BITS = 4096
"""Size of the numbers that a template computes."""
MAX_WIDTH = re.compile(r"\d{4,}")
MAX_FIELDS = 1000
"""Of one format string, each with a width of at most three digits."""
BASE_CHARACTERS = 2**20
CHARACTERS_PER_INPUT = 64
"""All texts that a template makes together, for each character of its source and the messages."""


class TemplateLimitError(jinja2.TemplateError):
    """A template exceeds a limit, or does what cannot be traced."""


class RenderBudget:
    """What one rendering may still use."""

    def __init__(self, characters: int) -> None:
        self._left = BASE_CHARACTERS + CHARACTERS_PER_INPUT * characters
        self._end = time.thread_time() + MAX_SECONDS

    def check(self, characters: int) -> None:
        """Raise TemplateLimitError if a text of this length may not be made."""
        if characters > self._left:
            raise TemplateLimitError("it makes more text than the messages can need")
        self.tick()

    def spend(self, characters: int) -> None:
        """Count the characters of a text that was made."""
        self.check(characters)
        self._left -= characters

    def tick(self) -> None:
        """Raise TemplateLimitError if the time is over."""
        if time.thread_time() > self._end:
            raise TemplateLimitError(f"it takes more than {MAX_SECONDS:.0f} s")


def check_numbers(values: Iterable[Any]) -> None:
    """Raise TemplateLimitError for numbers that make a function's result too large."""
    for value in values:
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise TemplateLimitError(f"it passes a number above {MAX_NUMBER:,} to a function")


def check_format(template: str) -> None:
    """Raise TemplateLimitError for a format string with large widths or too many fields."""
    if MAX_WIDTH.search(template) or template.count("%") + template.count("{") > MAX_FIELDS:
        raise TemplateLimitError("it formats text to more than 999 characters, or too many texts at once")


def check_size(value: object) -> None:
    """Raise TemplateLimitError for containers with too many elements in them."""
    waiting, count = [value], 0
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            waiting += item
        elif isinstance(item, Namespace):  # may contain itself
            raise TemplateLimitError("it prints a namespace, or puts one into a list")
        count += 1
        if count + len(waiting) > MAX_ITEMS:
            raise TemplateLimitError(f"it makes a list of more than {MAX_ITEMS:,} elements")
