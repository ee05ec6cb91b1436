"""An INT8 export of a small checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the workbench packages")

from tests.exports import export, made_once
from vlrun import manifest
from vlrun.manifest import Manifest


@pytest.fixture(scope="session")
def int8_export(tied_checkpoint: Path) -> tuple[Path, Manifest]:
    """Export the tied one to an INT8 folder that passed its check; return the folder and its manifest."""
    folder = tied_checkpoint.parent / "int8"
    made_once(folder, lambda out: export(tied_checkpoint, out, weights="int8", check=True))
    return folder, manifest.read(folder)
