"""The Python that the README shows, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.paths import ROOT


def test_the_python_of_the_readme_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards examples that nobody runs: only the names of the model and of the images are others here."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    shelf = ROOT / "examples" / "shelf.png"
    for name in ("shelf.png", "before.jpg", "after.jpg"):
        assert f'"{name}"' in code
        code = code.replace(f'"{name}"', repr(str(shelf)))
    exec(compile(code.replace('"qwen3-vl-2b-int8"', ""), "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert said.startswith("6 stop Usage(")
    assert said.count("\n") >= 1
