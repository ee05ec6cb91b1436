"""``vlrun verify`` as a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.cli.command_line import vlrun


@pytest.mark.fault(36)
def test_verify_accepts_an_intact_folder(small_model: Path, tmp_path: Path) -> None:
    done = vlrun("verify", small_model, home=tmp_path)
    assert done.returncode == 0
    assert b"all as exported" in done.stdout
