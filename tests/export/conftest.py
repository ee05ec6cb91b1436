"""Exports that several tests of the workbench read: the tied small checkpoint, in INT8."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the workbench packages")

from vlrun.manifest import Manifest
from vlrun_export.export import export_checkpoint


@pytest.fixture(scope="session")
def int8_export(small_checkpoint: Path) -> tuple[Path, Manifest]:
    """Each small checkpoint as an INT8 model folder that passed its check, and its manifest."""
    out = small_checkpoint.parent / "int8"
    return out, export_checkpoint(small_checkpoint, out)
