"""Pages of a document, written as 1-3,7."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice

from vlrun.errors import MediaNotFound, OptionError

MAX_PAGES = 64
"""Of a question: as many as it may have images."""
_RANGE = re.compile(r"([0-9]{1,7})(-([0-9]{1,7})?)?")
_FORM = "pages are numbers and ranges, as 1-3,7 or 5-, and the first page is 1"


def parse_pages(text: str) -> tuple[range, ...]:
    """Parse "1-3,7" or "5-": the numbers of pages, from 1. Raises OptionError."""
    found = [_RANGE.fullmatch(part.strip()) for part in text.split(",")]
    ranges = [_range(match) if match else range(0) for match in found]
    if not all(one and one.start >= 1 for one in ranges):
        raise OptionError(f"'{text[:80]}' names no pages: {_FORM}")
    return tuple(ranges)


def _range(match: re.Match[str]) -> range:
    first = int(match[1])
    return range(first, int(match[3] or 10**7) + 1) if match[2] else range(first, first + 1)


def choose_pages(ranges: tuple[range, ...] | None, count: int, name: str, max_pages: int = MAX_PAGES) -> list[int]:
    """Return the numbers of the chosen pages of a document with ``count`` pages, in the order given; None are all.

    Ranges end with the document.

    Raises:
        MediaNotFound: The document has no such page.
        OptionError: There are too many.
    """
    pages = list(islice(_pages(ranges or (range(1, count + 1),), count, name), max_pages + 1))
    if len(pages) > max_pages:
        chosen = "" if ranges is None else ", and more than that are chosen"
        raise OptionError(
            f"{name} has {count:,} pages{chosen}; a question can have at most {max_pages}: choose some, as 1-3,7"
        )
    return pages


def _pages(ranges: tuple[range, ...], count: int, name: str) -> Iterator[int]:
    for one in ranges:
        if one.start > count:
            pages = "1 page" if count == 1 else f"{count:,} pages"
            raise MediaNotFound(f"{name} has {pages}, and no page {one.start}")
    return chain.from_iterable(range(one.start, min(one.stop, count + 1)) for one in ranges)
