"""The Python code in README.md and docs/python.md runs as shown."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.slow


def test_the_python_code_of_the_readme_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The test replaces only the names of the model and the images."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    shelf = ROOT / "examples" / "shelf.png"
    for name in ("shelf.png", "before.jpg", "after.jpg"):
        assert f'"{name}"' in code
        code = code.replace(f'"{name}"', repr(str(shelf)))
    exec(compile(code.replace('"qwen3-vl-2b"', ""), "README.md", "exec"), {})
    output = capsys.readouterr().out
    assert output.startswith("6 stop Usage(")
    assert output.count("\n") >= 1


def test_the_python_code_of_the_api_page_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks build on each other."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "my_tasks.toml").touch()
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)
    names = {"__name__": "api_page"}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec", dont_inherit=True), names)
    output = capsys.readouterr().out
    assert output.startswith("6\n")
    assert "Stock(bottles=6)" in output
    assert "'bottle': 6" in output
