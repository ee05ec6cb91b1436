"""One small model is enough for the commands: what differs between the two is numerics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import vlrun
from vlrun import vlm as vlm_module


@pytest.fixture(scope="module")
def loaded_model() -> Iterator[vlrun.VLM]:
    """The embedded model."""
    with vlrun.load() as vlm:
        yield vlm


@pytest.fixture
def one_model(loaded_model: vlrun.VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all commands of a module that run in this process use the same model: loading it takes a second."""
    monkeypatch.setattr(vlm_module, "load", lambda *_, **__: loaded_model)
    monkeypatch.setattr(loaded_model, "close", lambda: None)


@pytest.fixture(scope="session")
def small_model(tied_model: Path) -> Path:
    """Use the tied one of the small models."""
    return tied_model
