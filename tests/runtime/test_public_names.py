"""The names of the package: listed and found before anything is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import vlrun
from tests.paths import RUNTIME


def in_new_process(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(RUNTIME)}
    return subprocess.run(
        [sys.executable, "-c", f"import sys, vlrun; {code}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_dir_lists_the_public_names() -> None:
    """``dir(vlrun)`` had only ``importlib``, ``warnings`` and the like: completion in a shell found no function."""
    listed = [name for name in dir(vlrun) if not name.startswith("_")]
    assert set(listed) == {*vlrun.__all__, "errors"}
    assert {"__version__", "__doc__"} <= set(dir(vlrun))
    assert all(getattr(vlrun, name) is not None for name in listed)


def test_listing_the_names_imports_nothing() -> None:
    loaded = in_new_process("dir(vlrun); print(*(name for name in sys.modules if name.startswith('vlrun.')))")
    assert loaded == ""


def test_the_errors_are_there_without_an_import() -> None:
    """The documentation names ``vlrun.errors.InvalidAnswer``, which was an AttributeError right after the import."""
    assert in_new_process("print(vlrun.errors.InvalidAnswer.__name__)") == "InvalidAnswer"
