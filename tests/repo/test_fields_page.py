"""docs/fields.md shows the table of the code."""

from __future__ import annotations

import re
import runpy

import pytest

from tests.paths import ROOT

pytest.importorskip("msgspec")


def test_the_tables_of_fields_are_up_to_date() -> None:
    """Guards against a field that is refused in the code and ignored on the page; scripts/docs updates it."""
    page = (ROOT / "docs" / "fields.md").read_text(encoding="utf-8")
    script = runpy.run_path(str(ROOT / "scripts" / "_docs.py"))
    assert page == script["with_tables"](page)
    assert re.findall("<!-- fields of: (.+) -->", page) == list(script["REQUESTS"])
    assert "| `stream_options` |" in page
