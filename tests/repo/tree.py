"""The packages and tracked files of this clone."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.paths import ROOT

PACKAGES = {"vlrun": ROOT / "runtime" / "vlrun", "vlrun_export": ROOT / "export" / "vlrun_export"}


def tracked_files() -> list[Path]:
    """Return the files that git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]
