"""Folders of this clone."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ROOT / "runtime"
EXPORT = ROOT / "export"
EXAMPLES = ROOT / "examples"
