"""The Markdown pages: tables render, and relative links resolve."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.repo.tree import PACKAGES, tracked_files

PAGES = [path for path in tracked_files() if path.suffix == ".md"]
IDS = [str(path.relative_to(ROOT)) for path in PAGES]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
DELIMITERS = re.compile(r"\|(\s*:?-+:?\s*\|)+")


def test_the_pages_are_found() -> None:
    assert {"README.md", "docs/README.md", "docs/asking.md", "ARCHITECTURE.md"} <= set(IDS)


def _lines(page: Path) -> list[str]:
    """Return the lines of a page, with code blocks blanked."""
    text = re.sub(r"^```.*?^```$", _blank, page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return text.splitlines()


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_tables_render(page: Path) -> None:
    """Guards against a blank line inside a table, and text directly after a row."""
    lines = ["", *_lines(page), ""]
    broken = []
    for is_table, group in groupby(range(len(lines)), key=lambda number: lines[number].startswith("|")):
        if is_table:
            numbers = list(group)
            rows = [lines[number] for number in numbers]
            alone = not lines[numbers[0] - 1].strip() and not lines[numbers[-1] + 1].strip()
            headed = len(rows) > 2 and DELIMITERS.fullmatch(rows[1])
            if not alone or not headed or len({_cells(row) for row in rows}) > 1:
                broken.append(f"line {numbers[0]}: {rows[0]}")
    assert not broken


def _cells(row: str) -> int:
    return len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", row)))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for target in LINK.findall("\n".join(_lines(page))):
        name, _, heading = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = page.parent / name if name else page
        if not path.exists() or (heading and heading not in _anchors(path)):
            broken.append(target)
    assert not broken


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, in GitHub's form."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_files_named_in_the_architecture_exist() -> None:
    """Except names with NAME."""
    spans = re.findall(r"`([\w./-]+(?:\.(?:py|toml|md)|/))`", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    missing = [
        name
        for name in spans
        if "NAME" not in name and not any((folder / name).exists() for folder in (ROOT, PACKAGES["vlrun"]))
    ]
    assert spans
    assert not missing
