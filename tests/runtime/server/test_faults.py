"""Every row of the fault table has a test: ``@pytest.mark.fault(ROW, ...)`` marks those that prove a row."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.paths import ROOT

ROWS = range(1, 45)
NOT_PROVED = {40: "while nothing fetches a model, no hub can be out of reach: this needs `vlrun pull`"}
"""Rows without a test. Rows 38 and 39 are proved for the export, not for `vlrun pull` yet; render groups and drivers of
row 41 need a GPU: it is proved that the processor answers if the device is not there.
"""


@cache
def marked() -> dict[int, list[str]]:
    """The tests that prove each row."""
    tests: dict[int, list[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            marks = [mark for mark in node.decorator_list if isinstance(mark, ast.Call)]
            for row in (row for mark in marks if ast.unparse(mark.func) == "pytest.mark.fault" for row in mark.args):
                tests.setdefault(ast.literal_eval(row), []).append(f"{path.name}::{node.name}")
    return tests


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_proved_or_says_why_not(row: int) -> None:
    """Guards the table against a test that was thrown away."""
    assert (row in marked()) != (row in NOT_PROVED)


def test_marks_are_rows() -> None:
    """Guards against a mistyped number."""
    assert set(marked()) <= set(ROWS)
    assert all(name.partition("::")[2].startswith("test_") for names in marked().values() for name in names)
