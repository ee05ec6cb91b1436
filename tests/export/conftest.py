"""INT8 exports of the small checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the workbench packages")

from vlrun import manifest
from vlrun.manifest import Manifest
from vlrun_export.export import export_checkpoint


@pytest.fixture(scope="session")
def int8_export(small_checkpoint: Path) -> tuple[Path, Manifest]:
    """Export each small checkpoint to an INT8 folder that passed its check; return the folder and its manifest."""
    out = small_checkpoint.parent / "int8"
    if not out.exists():  # pytest goes back and forth between the parameters
        export_checkpoint(small_checkpoint, out)
    return out, manifest.read(out)
