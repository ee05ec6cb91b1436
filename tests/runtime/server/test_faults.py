"""Every row of the fault table has a test, marked ``@pytest.mark.fault(ROW, ...)``."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.paths import ROOT

ROWS = range(1, 57)
"""Of row 41, the CPU fallback is tested; render groups and drivers need a GPU."""


@cache
def marked() -> dict[int, list[str]]:
    """The tests of each row."""
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
def test_each_row_has_a_test(row: int) -> None:
    assert row in marked()


def test_marks_name_existing_rows() -> None:
    assert set(marked()) <= set(ROWS)
    assert all(name.partition("::")[2].startswith("test_") for names in marked().values() for name in names)
