"""The model that ships with vlrun: a folder like any other, tiny, a demo and a test bench (model card: README.md)."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
