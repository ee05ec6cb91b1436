"""The example images show what the README says."""

from __future__ import annotations

from collections import Counter

from training.examples import EXAMPLES, example


def test_the_shelf_has_the_items_that_the_readme_counts() -> None:
    """The first command of the README counts six bottles on three shelves."""
    shelf = example("shelf")
    assert Counter(item.kind for item in shelf.items)["bottle"] == 6
    assert shelf.shelves == 3
    assert all(example(name).image.size == size for name, (_, size, _) in EXAMPLES.items())
