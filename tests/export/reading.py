"""Reading a checkpoint without converting its weights."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from vlrun import manifest
from vlrun.manifest import FileEntry, Manifest, Quantization
from vlrun_export.checkpoint import Checkpoint, open_checkpoint
from vlrun_export.manifest_fields import describe
from vlrun_export.quiet_libraries import quiet_libraries


def read_checkpoint(folder: Path, opened: Checkpoint | None = None) -> Manifest:
    """Do everything that an export does before it converts weights, and read the manifest with the runtime.

    ``opened``: the folder, if its config.json and weights need not be read again.
    """
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        with quiet_libraries():
            described = describe(opened or open_checkpoint(folder), "name", Quantization("int8", "int8", "recipe"), out)
        files = dict.fromkeys(manifest.REQUIRED, FileEntry(1, "0" * 64))
        manifest.write(replace(described, files=files), out)
        return manifest.read(out)
