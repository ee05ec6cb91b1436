"""docs/fields.md shows the table of the code."""

from __future__ import annotations

import runpy

import pytest

from tests.paths import ROOT

pytest.importorskip("msgspec")


def test_the_tables_of_fields_are_up_to_date() -> None:
    """Guards against a field that is refused in the code and ignored on the page; scripts/docs updates it."""
    page = (ROOT / "docs" / "fields.md").read_text(encoding="utf-8")
    with_tables = runpy.run_path(str(ROOT / "scripts" / "_docs.py"))["with_tables"]
    assert page == with_tables(page)
    assert page.count("<!-- end of fields -->") == 3
    assert "| `stream_options` |" in page
