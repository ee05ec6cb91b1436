"""One small model is enough for the commands: what differs between the two is numerics."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_model(tied_model: Path) -> Path:
    """Use the tied one of the small models."""
    return tied_model
