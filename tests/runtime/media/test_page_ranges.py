"""Parsing and choosing pages."""

from __future__ import annotations

import pytest

from vlrun.errors import MediaNotFound, OptionError
from vlrun.media.page_ranges import MAX_PAGES, choose_pages, parse_pages


@pytest.mark.parametrize(
    ("text", "count", "pages"),
    [
        ("1-3,7", 9, [1, 2, 3, 7]),
        ("7, 1-2", 9, [7, 1, 2]),
        ("8-", 9, [8, 9]),
        ("8-20", 9, [8, 9]),
        ("9", 9, [9]),
        ("2-2,2", 9, [2, 2]),
    ],
)
def test_pages_come_in_the_order_given(text: str, count: int, pages: list[int]) -> None:
    assert choose_pages(parse_pages(text), count, "it") == pages


@pytest.mark.parametrize("text", ["", "0", "0-3", "-3", "3-2", "1,,2", "a", "1-3-5", "1.5", "٣", "99999999", "1 2"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="names no pages: pages are numbers and ranges"):
        parse_pages(text)


def test_without_a_choice_all_pages_are_chosen() -> None:
    assert choose_pages(None, 3, "it") == [1, 2, 3]
    assert len(choose_pages(None, MAX_PAGES, "it")) == MAX_PAGES
    with pytest.raises(OptionError, match=f"it has {MAX_PAGES + 1} pages"):
        choose_pages(None, MAX_PAGES + 1, "it")
    with pytest.raises(MediaNotFound, match="it has 1 page, and no page 2"):
        choose_pages(parse_pages("2"), 1, "it")
