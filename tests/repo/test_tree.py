"""Limits on the source tree: sizes of files and functions, and no paths of a developer's machine."""

from __future__ import annotations

import ast
import re

from tests.paths import ROOT
from tests.repo.tree import tracked_files

MAX_FILE_BYTES = 12_000_000
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MACHINE = re.compile(
    r"/(?:work|root)/|/home/[a-z]+/|/opt/(?:wheels|pypi)|pypi\.org|pythonhosted\.org|npmjs\.org|deb\.debian\.org"
)


def test_files_are_smaller_than_12_mb() -> None:
    huge = [path for path in tracked_files() if path.stat().st_size > MAX_FILE_BYTES]
    assert not huge


def test_no_file_contains_paths_of_a_machine_or_registry_urls() -> None:
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a binary file
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in MACHINE.finditer(text)]
    assert not found


def test_python_files_have_at_most_400_lines() -> None:
    sources = [path for path in tracked_files() if path.suffix == ".py"]
    assert sources
    long = {str(path): lines for path in sources if (lines := len(path.read_text().splitlines())) > MAX_FILE_LINES}
    assert not long


def test_functions_have_at_most_60_lines() -> None:
    long = {}
    for path in tracked_files():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = lines
    assert not long
